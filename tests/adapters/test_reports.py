"""The evaluation report: whole, offline, bounded, and never in the way of an evaluation."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mlops_assets.adapters.reports import (
    MOST_CATEGORIES,
    MOST_FEATURES,
    _fewer_categories,
    _sample,
    evaluation_report,
)
from mlops_assets.core.errors import PermanentError
from mlops_assets.core.spec import FeatureType

FEATURES: dict[str, FeatureType] = {
    "delay_minutes": "float",
    "always_one": "float",
    "without_values": "float",
    "with_infinities": "float",
    "carrier_code": "category",
    "tail_number": "category",
    "without_text": "category",
    "always_x": "category",
}


def _frame(seed: int, rows: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    scores = random.beta(2, 5, rows).astype(np.float32)
    broken = random.normal(size=rows)
    broken[:3] = [np.inf, -np.inf, np.nan]
    return pl.DataFrame(
        {
            "delay_minutes": random.normal(seed / 10, 1, rows).astype(np.float32),
            "always_one": np.ones(rows, dtype=np.float32),
            "without_values": pl.Series([None] * rows, dtype=pl.Float32),
            "with_infinities": broken.astype(np.float32),
            "carrier_code": [None if n % 7 == 0 else "UA" if n % 2 else "<b>" for n in range(rows)],
            "tail_number": [f"N{n}" for n in random.integers(0, 900, rows)],
            "without_text": pl.Series([None] * rows, dtype=pl.String),
            "always_x": ["x"] * rows,
            "score": scores,
            "label": (random.uniform(size=rows) < scores).astype(np.int8),
            "event_id": np.arange(rows),
        }
    )


def _report(path: Path, reference: pl.DataFrame, current: pl.DataFrame, max_rows: int = 200) -> str:
    return evaluation_report(
        reference,
        current,
        FEATURES,
        label="label",
        score="score",
        title="flights <late> & co",
        max_rows=max_rows,
        path=str(path),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report on features of every awkward kind."""
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    assert _report(path, _frame(1, 700), _frame(2, 400)) == str(path)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return path.read_text()


def test_a_report_needs_no_network(page: str) -> None:
    """No script, style, font or picture comes from elsewhere."""
    assert not re.findall(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)\s*=", page)
    assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", page)
    assert page.count("<script") >= 2


def test_a_report_on_very_many_features_stays_under_ten_megabytes(tmp_path: Path) -> None:
    """Evidently's own scripts are 4 MB; features beyond the most that are shown add nothing."""
    random = np.random.default_rng(0)
    floats = {f"f{n}": random.normal(size=100) for n in range(MOST_FEATURES // 2 + 2)}
    texts = {f"c{n}": random.permutation(100).astype(str) for n in range(MOST_FEATURES // 2)}
    frame = pl.DataFrame(floats | texts | {"score": [0.5] * 100, "label": [0, 1] * 50})
    features: dict[str, FeatureType] = {
        **dict.fromkeys(texts, "category"),
        **dict.fromkeys(floats, "float"),
    }
    path = tmp_path / "report.html"
    evaluation_report(
        frame,
        frame,
        features,
        label="label",
        score="score",
        title="wide",
        max_rows=100,
        path=str(path),
    )
    assert path.stat().st_size < 10_000_000
    half = MOST_FEATURES // 2
    left_out = f"no drift, beyond {MOST_FEATURES} features: f{half}, f{half + 1}"
    assert left_out in path.read_text()


def test_a_report_says_what_it_is_about_and_what_it_leaves_out(page: str) -> None:
    """Title, rows, and the features without values; markup in names stays text."""
    assert "<title>flights &lt;late&gt; &amp; co</title>" in page
    assert "reference: 200 of 700 rows<br>current: 200 of 400 rows" in page
    assert "no drift, one side has no value: without_values, without_text</p>" in page


def test_a_report_shows_quality_and_drift_of_every_other_feature(page: str) -> None:
    """Constant columns, infinities, rare categories and missing values included."""
    for text in ("Model Quality Metrics", "Confusion Matrix", "Data Drift Summary"):
        assert text in page, text
    for feature in FEATURES.keys() - {"without_values", "without_text"}:
        assert f'"{feature}"' in page, feature
    assert "(other)" in page


def test_one_class_leaves_out_the_quality_alone(tmp_path: Path) -> None:
    """A quiet week has no positives; the drift of its features is worth a look still."""
    path = tmp_path / "report.html"
    _report(path, _frame(1, 150), _frame(2, 150).with_columns(label=pl.lit(0)))
    page = path.read_text()
    assert "no quality of scores: the rows of one side have one class only" in page
    assert "Data Drift Summary" in page
    assert "Model Quality Metrics" not in page


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    """And a side without any label is refused, before a report that stands is touched."""
    path = tmp_path / "report.html"
    path.write_text("the report before")
    unlabelled = _frame(2, 50).with_columns(label=pl.lit(None, dtype=pl.Int8))
    with pytest.raises(PermanentError, match="no labelled current rows"):
        _report(path, _frame(1, 50), unlabelled)
    assert path.read_text() == "the report before"


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """With the side that lacks it."""
    with pytest.raises(PermanentError, match="reference rows have no column delay_minutes, score"):
        _report(tmp_path / "r.html", _frame(1, 50).drop("delay_minutes", "score"), _frame(2, 50))
    assert not list(tmp_path.iterdir())


def test_the_sample_is_bounded_and_the_same_every_time() -> None:
    """In the order of the rows, and all of them where they fit."""
    frame = _frame(1, 500)
    sample = _sample(frame, 120)
    assert sample.height == 120
    assert sample["event_id"].is_sorted()
    assert sample["event_id"].n_unique() == 120
    assert sample.equals(_sample(frame, 120))
    assert _sample(frame, 500).equals(frame)


def test_rare_categories_become_one() -> None:
    """The frequent ones of both sides stay themselves, missing stays missing."""
    before = pl.DataFrame({"c": ["often"] * 50 + [f"r{n}" for n in range(300)] + [None]})
    now = pl.DataFrame({"c": ["now"] * 40 + ["often"]})
    before, now = _fewer_categories(before, now, {"c": "category"})
    values = set(before["c"]) | set(now["c"])
    assert {"often", "now", "(other)", None} <= values
    assert len(values - {None}) == MOST_CATEGORIES
    assert before["c"].null_count() == 1
