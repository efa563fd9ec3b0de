"""The protocols: what peers' clients rely on, and what is refused before a body is read."""

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from protocol_support import JSON, ask, serving
from serving_support import NOON, infer_body, make_model, make_release

from mlops_assets.adapters.prediction_logs import read_predictions
from mlops_assets.core.rollout_state import set_share, start_rollout
from mlops_assets.serving.answers import Limits, Server
from mlops_assets.serving.app import Exchange, open_exchange
from mlops_assets.serving.auth import Tokens
from mlops_assets.serving.models import Follower
from mlops_assets.serving.protocol import Response
from mlops_assets.serving.request_log import JsonFormatter, RequestLog

INFER = "/v2/models/flights/infer"
RECORD = {"carrier": "UA", "hour": 17.0, "delay": None}
CSV = {"content-type": "text/csv"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The tiny model in version 1."""
    limits = Limits(max_body_bytes=200_000, max_rows=5000, max_in_flight=2)
    with serving(tmp_path, limits=limits) as server:
        yield server


def test_the_binary_extension_gives_the_same_scores(server: Server) -> None:
    """Binary in, binary out, in every combination with JSON."""
    plain = ask(server, "POST", INFER, infer_body())
    (expected,) = plain.json["outputs"]  # type: ignore[misc]
    hour = np.array([17.0], "<f8").tobytes()
    inputs = json.loads(json.dumps(infer_body()))["inputs"]
    del inputs[1]["data"]
    inputs[1]["parameters"] = {"binary_data_size": 8}
    for parameters in ({}, {"binary_data_output": True}):
        head = json.dumps({"inputs": inputs, "parameters": parameters}).encode()
        length = {"inference-header-content-length": str(len(head))}
        for kind in ({}, {"content-type": "application/octet-stream"}, JSON):
            said = ask(server, "POST", INFER, head + hour, {**kind, **length})
            assert said.status == 200, said.body
            if not parameters:
                assert said.json["outputs"] == [expected]
                continue
            border = int(said.headers["inference-header-content-length"])
            (output,) = json.loads(said.body[:border])["outputs"]
            assert output["parameters"] == {"binary_data_size": 4}
            assert "data" not in output
            assert np.frombuffer(said.body[border:], "<f4").tolist() == expected["data"]
            assert said.headers["content-type"] == "application/octet-stream"
    assert ask(server, "GET", "/v2").json["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize("value", ["", "-1", "x", "1e3", "9" * 30, "\xb2"])
def test_a_header_length_that_is_none_is_a_400(server: Server, value: str) -> None:
    """A border that cannot be read is not guessed."""
    headers = {**JSON, "inference-header-content-length": value}
    assert ask(server, "POST", INFER, infer_body(), headers).status == 400


def test_a_canarys_versions_answer_each_by_its_own_path(tmp_path: Path) -> None:
    """Whoever names a version gets that one; nobody names a challenger in shadow."""
    release = make_release(tmp_path)
    shadow = start_rollout(release, make_model(tmp_path, 2, seed=1), "r1", NOON, "test")
    with serving(tmp_path, shadow) as server:
        assert ask(server, "GET", "/v2/models/flights").json["versions"] == ["1"]
        assert (
            ask(server, "POST", "/v2/models/flights/versions/2/infer", infer_body()).status == 404
        )
    with serving(tmp_path, set_share(shadow, 0.5, NOON, "test")) as server:
        assert ask(server, "GET", "/v2/models/flights").json["versions"] == ["1", "2"]
        scores = set()
        for version, role in (("1", "champion"), ("2", "challenger")):
            base = f"/v2/models/flights/versions/{version}"
            said = ask(server, "POST", f"{base}/infer", infer_body()).json
            assert said["model_version"] == version
            assert said["parameters"]["role"] == role  # type: ignore[index]
            scores.add(said["outputs"][0]["data"][0])  # type: ignore[index]
            assert ask(server, "GET", f"{base}/ready").status == 200
            metadata = ask(server, "GET", base).json
            assert metadata["parameters"]["sha256"] == said["parameters"]["sha256"]  # type: ignore[index]
        assert len(scores) == 2


def test_a_caller_is_kept_by_key_header_or_custom_attribute(tmp_path: Path) -> None:
    """The same key, however it comes, is answered by the same model."""
    release = make_release(tmp_path)
    shadow = start_rollout(release, make_model(tmp_path, 2, seed=1), "r1", NOON, "test")
    with serving(tmp_path, set_share(shadow, 0.5, NOON, "test")) as server:
        sides = set()
        for n in range(20):
            key = f"caller-{n}"
            by_parameter = ask(server, "POST", INFER, {**infer_body(), "parameters": {"key": key}})
            version = by_parameter.json["model_version"]
            sides.add(version)
            by_header = ask(server, "POST", INFER, infer_body(), {**JSON, "x-request-key": key})
            assert by_header.json["model_version"] == version
            for headers, params in (
                ({"x-amzn-sagemaker-custom-attributes": f"trace=1, key={key}"}, {}),
                ({"x-request-key": key}, {}),
                ({"x-request-key": "another"}, {"params": {"key": key}}),
            ):
                body = {"instances": [RECORD], **params}
                said = ask(server, "POST", "/invocations", body, {**JSON, **headers})
                assert said.headers["x-model-version"] == version
        assert sides == {"1", "2"}
        headers = {**JSON, "x-request-key": "x" * 257}
        assert ask(server, "POST", INFER, infer_body(), headers).status == 422


def test_every_answer_has_the_callers_request_id_or_a_new_one(
    server: Server, tmp_path: Path
) -> None:
    """An id goes from the load balancer through the log of predictions to the answer."""
    said = ask(server, "POST", INFER, infer_body(), {**JSON, "x-request-id": "lb-1"})
    assert (said.headers["x-request-id"], said.json["id"]) == ("lb-1", "lb-1")
    said = ask(
        server, "POST", INFER, {"id": "r1", **infer_body()}, {**JSON, "x-request-id": "lb-2"}
    )
    assert (said.headers["x-request-id"], said.json["id"]) == ("lb-2", "r1")
    said = ask(server, "GET", "/nowhere", headers={"x-request-id": "lb-3"})
    assert (said.status, said.headers["x-request-id"]) == (404, "lb-3")
    made_up = set()
    for given in ("", "has space", "x" * 257, "tab\t", "\xe9"):
        said = ask(server, "POST", INFER, infer_body(), {**JSON, "x-request-id": given})
        assert said.headers["x-request-id"] == said.json["id"]
        made_up.add(said.json["id"])
    assert len(made_up) == 5
    logged = read_predictions(tmp_path / "log").table["request_id"].to_pylist()
    assert logged[:2] == ["lb-1", "r1"]
    assert set(logged[2:]) == made_up


def test_csv_is_read_and_written_as_sagemaker_does(server: Server) -> None:
    """With and without a header line, and one score a line for who accepts CSV alone."""
    (expected,) = ask(server, "POST", "/invocations", {"instances": [RECORD]}).json["predictions"]  # type: ignore[misc]
    named, bare = b"hour,delay,carrier\n17,,UA\n17,,UA\n", b"UA,17,\nUA,17,\n"
    for kind, body in (
        ("text/csv", named),
        ("text/csv; header=present", named),
        ("text/csv; charset=utf-8; header=absent", bare),
        ('text/csv; header="absent"', bare),
    ):
        said = ask(server, "POST", "/invocations", body, {"content-type": kind})
        assert said.json["predictions"] == [expected, expected]
        headers = {"content-type": kind, "accept": "text/csv"}
        said = ask(server, "POST", "/invocations", body, headers)
        assert said.headers["content-type"] == "text/csv; charset=utf-8"
        assert [float(line) for line in said.body.splitlines()] == [expected, expected]
    assert (
        ask(server, "POST", "/invocations", bare, {"content-type": "text/csv; header=x"}).status
        == 415
    )


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/*", "text/csv; charset=utf-8"),
        ("text/html, text/csv;q=0.5, application/json;q=0.9", "application/json"),
        ("application/json;q=0, text/csv", "text/csv; charset=utf-8"),
        ("application/json; verbose", "application/json"),
        ("text/html", None),
        ("text/csv;q=x", None),
        (", ,", None),
    ],
)
def test_the_answers_form_is_what_the_client_accepts(
    server: Server, accept: str, kind: str | None
) -> None:
    """406 where there is no such form, instead of one that is not asked for."""
    said = ask(server, "POST", "/invocations", {"instances": [RECORD]}, {**JSON, "accept": accept})
    assert said.status == (406 if kind is None else 200)
    assert said.headers["content-type"] == (kind or "application/json")


def test_options_head_and_other_methods(server: Server) -> None:
    """OPTIONS says what there is; HEAD is GET, and the transport leaves out its body."""
    said = ask(server, "OPTIONS", INFER)
    assert (said.status, said.body, said.headers["allow"]) == (200, b"", "POST, OPTIONS")
    assert ask(server, "HEAD", "/v2").status == 200
    for method, path in (("HEAD", INFER), ("PUT", "/v2"), ("X" * 100, "/ping")):
        said = ask(server, method, path)
        assert said.status == 405
        assert "allow" in said.headers
    assert ask(server, "GET", "/" + "x" * 5000).status == 404
    assert ask(server, "GET", "/version").body == b"0.1"


def test_tokens_are_needed_but_for_health(server: Server, tmp_path: Path) -> None:
    """Load balancers have none; what an endpoint is asked and how often is nobody else's."""
    (tmp_path / "tokens").write_bytes(b"a-token-of-enough-length")
    server.tokens = Tokens(tmp_path / "tokens")
    for path in ("/ping", "/health", "/v2/health/live", "/v2/health/ready"):
        assert ask(server, "GET", path).status == 200
    good = {**JSON, "authorization": "Bearer a-token-of-enough-length"}
    for method, path, body in (
        ("GET", "/v2", b""),
        ("GET", "/metrics", b""),
        ("GET", "/openapi.json", b""),
        ("GET", "/v2/models/flights", b""),
        ("POST", INFER, infer_body()),
        ("POST", "/invocations", {"instances": [RECORD]}),
    ):
        said = ask(server, method, path, body)
        assert (said.status, said.headers["www-authenticate"]) == (401, "Bearer")
        bad = {**good, "authorization": "Bearer another-token-than-that"}
        assert ask(server, method, path, body, bad).status == 401
        assert ask(server, method, path, body, good).status == 200
    assert ask(server, "GET", "/openapi.json", headers=good).json["security"] == [{"token": []}]


def open_infer(server: Server, length: int | None = None) -> Response | Exchange:
    """What becomes of the headers of an inference request."""
    headers = [(b"content-type", b"application/json")]
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    return open_exchange(server, "POST", INFER, headers)


def test_beyond_the_limit_in_flight_requests_are_told_to_try_again(server: Server) -> None:
    """Sooner refused than answered too late; health and metrics are answered all the same."""
    first, second = open_infer(server), open_infer(server)
    assert isinstance(first, Exchange)
    assert isinstance(second, Exchange)
    third = open_infer(server)
    assert isinstance(third, Response)
    assert third.status == 503
    assert (b"retry-after", b"1") in third.headers
    assert b"mlops_endpoint_in_flight 2\n" in open_exchange(server, "GET", "/metrics", []).body  # type: ignore[union-attr]
    first.close()
    again = open_infer(server)
    assert isinstance(again, Exchange)
    for exchange in (second, again):
        exchange.close()
    assert ask(server, "POST", INFER, infer_body()).status == 200


def test_bodies_in_flight_are_bounded_together(tmp_path: Path) -> None:
    """Many slow large bodies take no more memory than they may together."""
    limits = Limits(max_body_bytes=1000, max_buffered_bytes=1500)
    with serving(tmp_path, limits=limits) as server:
        first, second = open_infer(server), open_infer(server)
        assert isinstance(first, Exchange)
        assert isinstance(second, Exchange)
        first.hold(1000)
        with pytest.raises(Exception, match="in flight already") as refusal:
            second.hold(600)
        assert refusal.value.status == 503  # type: ignore[attr-defined]
        with pytest.raises(Exception, match="larger than 1000"):
            first.hold(1)
        first.close()
        second.close()
        assert server.admission.buffered == 0


@pytest.mark.parametrize(
    ("length", "status", "close"), [("300000", 413, True), ("x", 400, False), ("1_0", 400, False)]
)
def test_an_announced_length_is_judged_before_the_body(
    server: Server, length: str, status: int, close: bool
) -> None:
    """What is too large is not read; what is no length is not believed."""
    said = ask(server, "POST", INFER, b"", {**JSON, "content-length": length})
    assert said.status == status
    assert ("connection" in said.headers) is close


def test_a_draining_server_answers_and_closes(server: Server) -> None:
    """Clients go elsewhere: not ready, and each connection ends with its answer."""
    server.drain.set()
    said = ask(server, "POST", INFER, infer_body())
    assert (said.status, said.headers["connection"]) == (200, "close")
    assert ask(server, "GET", "/v2/health/ready").status == 503
    assert ask(server, "GET", "/v2/health/live").status == 200


def test_metrics_tell_what_happened(server: Server) -> None:
    """One request more shows everywhere: by model, in features and scores, and by refusal."""
    ask(server, "POST", INFER, infer_body(3))
    ask(server, "POST", INFER, b"{")
    ask(server, "GET", "/v2/models/other")
    said = ask(server, "GET", "/metrics")
    assert said.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = said.body.decode().splitlines()
    for line in (
        'mlops_endpoint_requests_total{version="1",role="champion"} 1',
        'mlops_endpoint_rows_total{version="1",role="champion"} 3',
        'mlops_endpoint_score_count{version="1",role="champion"} 3',
        'mlops_endpoint_feature_category_total{feature="carrier",category="UA"} 3',
        'mlops_endpoint_feature_bucket{feature="hour",le="20"} 3',
        'mlops_endpoint_feature_missing_total{feature="delay"} 3',
        'mlops_endpoint_refused_total{status="400"} 1',
        'mlops_endpoint_refused_total{status="404"} 1',
        "mlops_endpoint_request_seconds_count 1",
        "mlops_endpoint_in_flight 0",
        'mlops_endpoint_release_revision{worker="0"} 1',
        'mlops_endpoint_ready{worker="0"} 1',
    ):
        assert line in lines


def test_the_log_has_ids_and_no_values(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A refused request is found by its id; what it held is nowhere, not even after a bug."""
    formatter = JsonFormatter()
    secret = "Zx9-secret-value"
    with caplog.at_level(logging.INFO, logger="mlops_assets.serving"):
        for body in (
            infer_body(hour={"data": [secret]}),
            infer_body(carrier={"name": secret}),
            infer_body(),
        ):
            ask(server, "POST", INFER, body, {**JSON, "x-request-id": "r-1"})
        ask(server, "GET", f"/v2/models/{secret}")
        broken = replace(server, follower=Follower("x"))
        broken.follower.served = server.follower.served
        broken.pool = server.pool
        broken.log = None  # type: ignore[assignment]
        said = ask(broken, "POST", INFER, infer_body(1, carrier={"data": [secret]}))
        assert (said.status, "internal error" in str(said.json["error"])) == (500, True)
    lines = [json.loads(formatter.format(record)) for record in caplog.records]
    assert secret not in json.dumps(lines)
    refused = [line for line in lines if line["message"] == "refused"]
    assert [line["status"] for line in refused] == [422, 422, 404, 500]
    assert refused[0]["request"] == "r-1"
    assert refused[0]["route"] == "/v2/models/{model}/infer"
    assert refused[2]["route"] == "/v2/models/{model}"
    assert {"time", "level", "ms", "bytes"} <= refused[0].keys()
    (bug,) = [line for line in lines if "exception" in line]
    assert bug["exception"] == "AttributeError"
    assert any("answers.py" in place for place in bug["places"])


def test_a_flood_of_refusals_is_logged_in_part(caplog: pytest.LogCaptureFixture) -> None:
    """Twenty a second, with the number of those left out; all or none where that is asked for."""
    with caplog.at_level(logging.INFO, logger="mlops_assets.serving"):
        log = RequestLog()
        for _ in range(1000):
            log.done("r", "/v2", 404, 0.001, 0)
        assert len(caplog.records) <= 60
        caplog.clear()
        log.done("r", "/v2", 200, 0.001, 0)
        RequestLog("none").done("r", "/v2", 404, 0.001, 0)
        assert caplog.records == []
        RequestLog("all").done("r", "/v2", 200, 0.001, 0)
        assert len(caplog.records) == 1
