"""One process of the drift benchmark: one tool on two windows of days, timed.

Reading the rows is not timed. Prints one line of JSON. Runs in an interpreter that has the tool,
and imports nothing else.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

LAYOUT_ROWS = 1_000_000
"""Rows that bins are chosen from; more training rows are thinned evenly."""

Scores = dict[str, dict[str, float]]
"""By measure, then column."""


def files(folder: Path, side: str) -> list[Path]:
    """A window's days, in order."""
    return sorted((folder / side).glob("*.parquet"))


def ours(folder: Path) -> tuple[float, Scores, float]:
    """Layout, a profile a day, and the comparison; one day's rows at a time."""
    import polars as pl

    from mlops_assets.core.daily_profiles import daily
    from mlops_assets.core.drift import compare
    from mlops_assets.core.layouts import layout_of
    from mlops_assets.core.profiles import profile

    reference = files(folder, "reference")
    rows = sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in reference)
    every = -(-rows // LAYOUT_ROWS)
    training = pl.concat([pl.read_parquet(path).gather_every(every) for path in reference])
    types = {
        name: "category" if kind == pl.String else "float" for name, kind in training.schema.items()
    }
    before = resident("VmRSS")
    start = time.perf_counter()
    layout = layout_of(training, types)
    seconds = time.perf_counter() - start
    del training
    windows = []
    for side in ("reference", "current"):
        profiles = {}
        for n, path in enumerate(files(folder, side)):
            frame = pl.read_parquet(path)
            start = time.perf_counter()
            profiles[date(2024, 1, 1) + timedelta(days=n)] = profile(frame, layout)
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        windows.append(daily(profiles, layout))
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    drift = compare(windows[0], windows[1])
    seconds += time.perf_counter() - start
    scores: Scores = {"wasserstein": {}, "jensen_shannon": {}, "kolmogorov_smirnov": {}}
    for column in drift.columns:
        for measure, of_columns in scores.items():
            value = getattr(column.distances, measure)
            if value is not None:
                of_columns[column.column] = value
    return seconds, scores, before


def evidently(folder: Path) -> tuple[float, Scores, float]:
    """DataDriftPreset as it comes: normed Wasserstein of numbers, Jensen-Shannon of categories."""
    import math

    from evidently import Report
    from evidently.presets import DataDriftPreset

    reference, current = in_pandas(folder)
    before = resident("VmRSS")
    start = time.perf_counter()
    snapshot = Report([DataDriftPreset()]).run(current, reference)
    found = snapshot.dict()["metrics"]
    seconds = time.perf_counter() - start
    scores: Scores = {"wasserstein": {}, "jensen_shannon": {}}
    for metric in found:
        settings = metric.get("config", {})
        method = str(settings.get("method", "")).lower()
        if "column" in settings and "wasserstein" in method:
            scores["wasserstein"][settings["column"]] = float(metric["value"])
        elif "column" in settings and "jensen" in method:
            # Its logarithms are natural ones, so that its distances go to the root of ln 2.
            value = float(metric["value"]) / math.sqrt(math.log(2))
            scores["jensen_shannon"][settings["column"]] = value
    return seconds, scores, before


def nannyml(folder: Path) -> tuple[float, Scores, float]:
    """UnivariateDriftCalculator as it comes: Jensen-Shannon; the current window is one chunk."""
    from nannyml import UnivariateDriftCalculator

    reference, current = in_pandas(folder)
    names = list(reference.columns)
    before = resident("VmRSS")
    start = time.perf_counter()
    calculator = UnivariateDriftCalculator(column_names=names, chunk_number=1)
    found = calculator.fit(reference).calculate(current).filter(period="analysis").to_df()
    seconds = time.perf_counter() - start
    values = {name: float(found[name, "jensen_shannon", "value"].iloc[0]) for name in names}
    return seconds, {"jensen_shannon": values}, before


def exact(folder: Path) -> tuple[float, Scores, float]:
    """From the values themselves, by SciPy."""
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import ks_2samp, wasserstein_distance

    reference, current = in_pandas(folder)
    scores: Scores = {"wasserstein": {}, "jensen_shannon": {}, "kolmogorov_smirnov": {}}
    before = resident("VmRSS")
    start = time.perf_counter()
    for name in reference.columns:
        a, b = reference[name], current[name]
        if a.dtype.kind == "f":
            a, b = a.to_numpy(dtype="float64"), b.to_numpy(dtype="float64")
            scores["wasserstein"][name] = float(wasserstein_distance(a, b) / a.std())
            statistic = ks_2samp(a, b, method="asymp").statistic
            scores["kolmogorov_smirnov"][name] = float(statistic)
        else:
            p, q = a.value_counts(normalize=True).align(
                b.value_counts(normalize=True), fill_value=0
            )
            scores["jensen_shannon"][name] = float(jensenshannon(p, q, 2))
    return time.perf_counter() - start, scores, before


def in_pandas(folder: Path):
    """Both windows whole."""
    import pandas as pd

    return [
        pd.concat([pd.read_parquet(path) for path in files(folder, side)], ignore_index=True)
        for side in ("reference", "current")
    ]


def resident(field: str) -> float:
    """This process's memory, in MiB: VmRSS now, VmHWM at its most. 0 where /proc has none."""
    status = Path("/proc/self/status")
    found = re.search(rf"{field}:\s*(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else 0.0


CONTESTANTS: dict[str, Callable[[Path], tuple[float, Scores, float]]] = {
    "ours": ours,
    "evidently": evidently,
    "nannyml": nannyml,
    "exact": exact,
}

if __name__ == "__main__":
    taken, of_columns, memory = CONTESTANTS[sys.argv[1]](Path(sys.argv[2]))
    result = {
        "seconds": taken,
        "scores": of_columns,
        "peak_mib": resident("VmHWM"),
        "before_mib": memory,
    }
    print(json.dumps(result))
