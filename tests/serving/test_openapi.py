"""The OpenAPI document: valid, of the model that is served, and what fuzzing by it finds."""

import re
from pathlib import Path
from urllib.request import urlopen

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from protocol_support import ask, serving
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving_support import ServerProcess

EXAMPLES = 40
"""Examples of each operation, good and bad; ten times as many found nothing more."""

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


@schemathesis.serializer("text/csv", "application/octet-stream")
def as_bytes(_: object, value: object) -> bytes:
    """Bodies that are no JSON go out as they are."""
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


def test_the_document_is_valid_and_names_the_models_inputs(tmp_path: Path) -> None:
    """By the specification's own schema; a client can be made from it."""
    with serving(tmp_path) as server:
        document = ask(server, "GET", "/openapi.json").json
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"
    paths = document["paths"]
    assert "/v2/models/flights/versions/{version}/infer" in paths  # type: ignore[operator]
    assert '"hour"' in str(document).replace("'", '"')


def test_fuzzing_finds_no_failure_and_no_hang(server: ServerProcess) -> None:
    """Good and bad requests to every operation: each is answered in time, by a status and a body
    that the document has, and none with a failure of ours.
    """
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 12  # the document itself was read
    for operation in operations:
        fuzz(operation)
    assert server.get("/v2/health/ready")[0] == 200
    assert "exception" not in server.said()
    counted = urlopen(f"{server.url}/metrics", timeout=20).read().decode()  # noqa: S310
    # It was no monologue: good requests were answered, bad ones refused for what they held.
    assert re.search(r"request_seconds_count [1-9]", counted)
    for refusal in (400, 415, 422):
        assert re.search(rf'refused_total{{status="{refusal}"}} [1-9]', counted)


def fuzz(operation: APIOperation) -> None:
    """Ask for ``operation`` with whatever its schema allows and forbids."""
    modes = [GenerationMode.POSITIVE]
    if operation.method == "post":  # else nothing can be wrong but the text of a version
        modes.append(GenerationMode.NEGATIVE)
    for mode in modes:
        strategy = operation.as_strategy(generation_mode=mode)

        @settings(
            max_examples=EXAMPLES if operation.method == "post" else 5,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def ask_for(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=list(CHECKS), timeout=5)

        ask_for()
