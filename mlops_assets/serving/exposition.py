"""The metrics as Prometheus reads them: its text format, version 0.0.4."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from mlops_assets.core.latency import LATENCY_EDGES_S, SCORE_EDGES
from mlops_assets.serving.feature_bins import FEATURE_EDGES, bins_of
from mlops_assets.serving.metrics import (
    ERRORS,
    IN_FLIGHT,
    LATENCY,
    LOST,
    READY,
    REFUSED,
    REQUESTS,
    RETURNED,
    REVISION,
    ROWS,
    SCORES,
    SECONDS,
    SKIPPED,
    STATUSES,
    WHOLE,
    WHOLE_SECONDS,
    FeatureKey,
    Key,
    Metrics,
    ModelKey,
    ProcessKey,
)

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

MAX_VERSIONS = 8
"""Model versions that are shown, the newest: what an endpoint served once is in its history."""

_MODEL_COUNTERS = (
    (REQUESTS, "requests", "Requests that a model scored."),
    (ROWS, "rows", "Rows that a model scored."),
    (RETURNED, "returned", "Requests whose caller got the model's answer."),
    (ERRORS, "errors", "Requests that a model failed on."),
    (SKIPPED, "skipped", "Requests that a model was not asked about, being too far behind."),
)

Labels = Mapping[str, str]
Counters = Sequence[float]


def exposition(metrics: Metrics) -> bytes:
    """The numbers of all workers of the server, joined."""
    found = metrics.counters()
    lines = [*_process(found), *_models(found), *_features(found)]
    return ("\n".join(lines) + "\n").encode()


def _process(found: Iterable[tuple[int, Key, Counters]]) -> Iterator[str]:
    workers = {worker: values for worker, key, values in found if isinstance(key, ProcessKey)}
    yield from _head("release_revision", "gauge", "Revision of the release that is applied.")
    for worker, values in workers.items():
        yield _line("release_revision", {"worker": str(worker)}, values[REVISION])
    yield from _head("ready", "gauge", "Whether a worker is ready to answer.")
    for worker, values in workers.items():
        yield _line("ready", {"worker": str(worker)}, values[READY])
    total = _sum(workers.values())
    yield from _head("in_flight", "gauge", "Requests that are being read or answered.")
    yield _line("in_flight", {}, total[IN_FLIGHT])
    yield from _head("lost_log_records_total", "counter", "Answers that are not in the log.")
    yield _line("lost_log_records_total", {}, total[LOST])
    yield from _head("refused_total", "counter", "Requests that were refused, by status.")
    for n, status in enumerate((*map(str, STATUSES), "other")):
        yield _line("refused_total", {"status": status}, total[REFUSED + n])
    yield from _head(
        "request_seconds", "histogram", "From a request's header to its answer, if there is one."
    )
    yield from _histogram("request_seconds", {}, LATENCY_EDGES_S, total[WHOLE:REFUSED])
    yield _line("request_seconds_sum", {}, total[WHOLE_SECONDS])


def _models(found: Iterable[tuple[int, Key, Counters]]) -> Iterator[str]:
    by_role: dict[tuple[int, str], list[Counters]] = defaultdict(list)
    for _, key, values in found:
        if isinstance(key, ModelKey):
            by_role[key.version, key.role].append(values)
    versions = sorted({version for version, _ in by_role})[-MAX_VERSIONS:]
    models = [
        ({"version": str(version), "role": role}, _sum(by_role[version, role]))
        for version, role in sorted(by_role)
        if version in versions
    ]
    for place, name, text in _MODEL_COUNTERS:
        yield from _head(f"{name}_total", "counter", text)
        for labels, values in models:
            yield _line(f"{name}_total", labels, values[place])
    yield from _head("scoring_seconds", "histogram", "Time that a model takes for a request.")
    for labels, values in models:
        yield from _histogram("scoring_seconds", labels, LATENCY_EDGES_S, values[LATENCY:SCORES])
        yield _line("scoring_seconds_sum", labels, values[SECONDS])
    # Without a sum: after a single request it would be that request's score.
    yield from _head("score", "histogram", "Scores.")
    for labels, values in models:
        yield from _histogram("score", labels, SCORE_EDGES, values[SCORES:])


def _features(found: Iterable[tuple[int, Key, Counters]]) -> Iterator[str]:
    numbers: dict[str, list[Counters]] = defaultdict(list)
    categories: dict[tuple[str, str], float] = defaultdict(float)
    rest: dict[str, float] = defaultdict(float)
    missing: dict[str, float] = defaultdict(float)
    unknown: dict[str, float] = defaultdict(float)
    for _, key, values in found:
        if not isinstance(key, FeatureKey):
            continue
        place = 0
        for name, listed in key.features:
            bins = bins_of(listed)
            own = values[place : place + bins]
            if listed is None:
                numbers[name].append(own)
            else:
                for category, number in zip(listed, own, strict=False):
                    categories[name, category] += number
                rest[name] += own[-1]
                unknown[name] += values[place + bins + 1]
            missing[name] += values[place + bins]
            place += bins + 2
    yield from _head("feature", "histogram", "Values of a feature that is a number.")
    for name, parts in numbers.items():
        yield from _histogram("feature", {"feature": name}, FEATURE_EDGES, _sum(parts))
    yield from _head("feature_category_total", "counter", "Values of a category.")
    for (name, category), number in categories.items():
        yield _line("feature_category_total", {"feature": name, "category": category}, number)
    for name, text, by_name in (
        ("feature_rest_total", "Known categories that are not counted each.", rest),
        ("feature_unknown_total", "Categories that the model does not know.", unknown),
        ("feature_missing_total", "Missing values: null, NaN, or unknown.", missing),
    ):
        yield from _head(name, "counter", text)
        for feature, number in by_name.items():
            yield _line(name, {"feature": feature}, number)


def _sum(parts: Iterable[Counters]) -> list[float]:
    return [sum(values) for values in zip(*parts, strict=True)]


def _head(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP mlops_endpoint_{name} {text}"
    yield f"# TYPE mlops_endpoint_{name} {kind}"


def _histogram(
    name: str, labels: Labels, edges: Sequence[float], counts: Counters
) -> Iterator[str]:
    *below, total = accumulate(counts)
    for edge, number in zip(edges, below, strict=True):
        yield _line(f"{name}_bucket", {**labels, "le": f"{edge:.6g}"}, number)
    yield _line(f"{name}_bucket", {**labels, "le": "+Inf"}, total)
    yield _line(f"{name}_count", labels, total)


def _line(name: str, labels: Labels, value: float) -> str:
    text = ",".join(f'{label}="{_escaped(content)}"' for label, content in labels.items())
    braces = f"{{{text}}}" if text else ""
    return f"mlops_endpoint_{name}{braces} {value:.17g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
