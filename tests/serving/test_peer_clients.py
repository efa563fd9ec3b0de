"""Peers' own clients, unchanged, against a server process of ours."""

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3
import numpy as np
import pandas as pd
import pytest
import tritonclient.http as triton
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.config import Config
from botocore.httpsession import URLLib3Session
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from serving_support import ServerProcess, tiny_model

from mlops_assets.core.inference import encode, load_model, predict
from mlops_assets.core.records import Signature

if TYPE_CHECKING:
    from tritonclient.http import InferInput

ROWS = pd.DataFrame({"carrier": ["UA", "DL"], "hour": [17.0, 6.0], "delay": [0.5, float("nan")]})
TOKEN = "a-token-of-enough-length"


def expected() -> list[float]:
    """What the model gives when it is asked directly."""
    data = tiny_model()
    model = load_model(data, hashlib.sha256(data).hexdigest())
    columns = {name: ROWS[name].tolist() for name in ROWS}
    signature: Signature = model.signature
    return predict(model, encode(columns, signature)).tolist()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[triton.InferenceServerClient]:
    """Triton's client, which KServe's users use too."""
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()


def tensors(*, binary: bool) -> "list[InferInput]":
    """The rows as Triton's client sends them."""
    found: list[InferInput] = []
    for name, kind, dtype in (
        ("carrier", "BYTES", np.object_),
        ("hour", "FP64", np.float64),
        ("delay", "FP32", np.float32),
    ):
        tensor = triton.InferInput(name, [len(ROWS), 1], kind)
        values = ROWS[name].to_numpy().astype(dtype).reshape(-1, 1)
        tensor.set_data_from_numpy(values, binary_data=binary)
        found.append(tensor)
    return found


def test_tritons_client_finds_the_server_and_its_model(
    client: triton.InferenceServerClient,
) -> None:
    """Health and metadata, with and without a version."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("flights")
    assert client.is_model_ready("flights", "1")
    assert not client.is_model_ready("flights", "2")
    assert not client.is_model_ready("trains")
    assert client.get_server_metadata()["name"] == "mlops_assets"
    metadata = client.get_model_metadata("flights")
    assert metadata["versions"] == ["1"]
    assert [tensor["name"] for tensor in metadata["inputs"]] == list(ROWS)


@pytest.mark.parametrize("binary_input", [True, False])
@pytest.mark.parametrize("binary_output", [True, False, None])
def test_tritons_client_predicts(
    client: triton.InferenceServerClient, binary_input: bool, binary_output: bool | None
) -> None:
    """JSON and binary tensors both ways; missing values are NaN in both."""
    outputs = None
    if binary_output is not None:
        outputs = [triton.InferRequestedOutput("late", binary_data=binary_output)]
    result = client.infer(
        "flights",
        tensors(binary=binary_input),
        outputs=outputs,
        request_id="r1",
        model_version="1",
        parameters={"key": "caller"},
    )
    assert result.as_numpy("late").tolist() == expected()
    assert result.get_response()["id"] == "r1"


def test_tritons_client_is_told_what_is_wrong(client: triton.InferenceServerClient) -> None:
    """Its exception has our message."""
    with pytest.raises(triton.InferenceServerException, match="'delay' is missing"):
        client.infer("flights", tensors(binary=True)[:2])
    with pytest.raises(triton.InferenceServerException, match="no model 'trains'"):
        client.infer("trains", tensors(binary=True))


def test_mlflows_client_predicts(server: ServerProcess) -> None:
    """Its scoring client: frames with missing values, lists and arrays."""
    client = ScoringServerClient("127.0.0.1", server.port)
    client.wait_server_ready(timeout=10)
    assert client.get_version()
    assert client.invoke(ROWS).get_predictions()[0].tolist() == expected()
    records = ROWS.astype(object).where(ROWS.notna(), None).to_dict(orient="records")
    assert client.invoke(records).get_predictions("ndarray").tolist() == expected()
    array = ROWS.astype(object).to_numpy()
    assert client.invoke(array, {"key": "caller"})["predictions"] == expected()
    for form in ("instances", "dataframe_records"):
        assert client.invoke(json.dumps({form: records}))["predictions"] == expected()
    with pytest.raises(Exception, match=r"error code 422.*'delay' is missing"):
        client.invoke(ROWS.drop(columns="delay"))


class Container:
    """SageMaker between its client and a container: ``/endpoints/NAME/invocations`` of its runtime
    becomes ``/invocations`` of the container; the headers stay.
    """

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._session = URLLib3Session()
        self.asked: list[AWSPreparedRequest] = []

    def send(self, request: AWSPreparedRequest, **_: object) -> object:
        """Answer instead of the network."""
        assert request.url.endswith("/endpoints/flights/invocations")
        kept = {
            name: value
            for name, value in request.headers.items()
            if name.lower() in ("content-type", "accept") or name.lower().startswith("x-amzn-sage")
        }
        url = f"{self._server.url}/invocations"
        onward = AWSRequest("POST", url, kept, request.body, stream_output=True)
        self.asked.append(onward.prepare())
        return self._session.send(self.asked[-1])


def test_sagemakers_client_predicts(server: ServerProcess) -> None:
    """invoke_endpoint of boto3: JSON and CSV, its answer's content type, its custom attributes."""
    runtime = boto3.client(
        "sagemaker-runtime",
        region_name="eu-central-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(retries={"total_max_attempts": 1}),
    )
    container = Container(server)
    runtime.meta.events.register("before-send.sagemaker-runtime.InvokeEndpoint", container.send)
    split = json.loads(ROWS.to_json(orient="split", index=False))
    for body, kind in (
        (ROWS.to_csv(index=False, header=False), "text/csv; header=absent"),
        (ROWS.to_csv(index=False), "text/csv"),
        (json.dumps({"dataframe_split": split}), "application/json"),
    ):
        answer = runtime.invoke_endpoint(
            EndpointName="flights",
            Body=body,
            ContentType=kind,
            Accept="text/csv",
            CustomAttributes="key=caller",
            InferenceId="inference-1",
        )
        scores = [float(line) for line in answer["Body"].read().split()]
        assert scores == expected()
        assert answer["ContentType"] == "text/csv; charset=utf-8"
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        assert headers["x-request-id"] == "inference-1"
    assert len(container.asked) == 3
    status, _ = server.get("/ping")
    assert status == 200
