"""An AWS on loopback that remembers what it was asked, in the words of IAM."""

import io
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs
from xml.etree import ElementTree

App = Callable[[dict[str, Any], Any], Iterable[bytes]]

ACCOUNT = "123456789012"
REGION = "us-east-1"


@dataclass(frozen=True)
class Asked:
    """A right that a request needs: an action, on a resource, with keys for conditions."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}" + "".join(f" ({k} {v})" for k, v in self.context)


@dataclass
class Recorder:
    """Passes requests on to ``app`` and keeps which rights each needs."""

    app: App
    asked: list[Asked] = field(default_factory=list[Asked])
    tags: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    """Of what is at SageMaker, by its ARN."""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """WSGI."""
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        if target or "delete" in query:
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
        else:
            body = b""
        if target.startswith("DynamoDB"):
            self.asked += _of_dynamodb(target.partition(".")[2], json.loads(body))
            return self.app(environ, start_response)
        if target.startswith("SageMaker."):
            self.asked += _of_sagemaker(target.partition(".")[2], json.loads(body), self.tags)
            return self.app(environ, start_response)
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked += _of_s3(method, path, query, body)
        bucket, _, key = path.lstrip("/").partition("/")

        def answered(status: str, headers: Any, *more: Any) -> Any:
            if key and method in ("GET", "HEAD") and status.startswith("404"):
                # Whoever may not list is told "forbidden" of what is not there.
                self.asked.append(Asked("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
            return start_response(status, headers, *more)

        return self.app(environ, answered)


def _of_s3(method: str, path: str, query: dict[str, list[str]], body: bytes) -> list[Asked]:
    bucket, _, key = path.lstrip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if not key:
        if "delete" in query:
            found = ElementTree.fromstring(body).iter()  # noqa: S314 - the test's own request
            keys = [each.text for each in found if each.tag.rpartition("}")[2] == "Key"]
            return [Asked("s3:DeleteObject", f"{arn}/{name}") for name in keys]
        prefix = query.get("prefix")
        context = (("s3:prefix", prefix[0]),) if prefix else ()
        listed = method in ("GET", "HEAD")
        return [Asked("s3:ListBucket", arn, context) if listed else Asked("s3:CreateBucket", arn)]
    object_ = f"{arn}/{key}"
    if "uploadId" in query and method in ("GET", "DELETE"):
        verb = "ListMultipartUploadParts" if method == "GET" else "AbortMultipartUpload"
        return [Asked(f"s3:{verb}", object_)]
    if method == "DELETE":
        return [Asked("s3:DeleteObject", object_)]
    if method in ("GET", "HEAD"):
        return [Asked("s3:GetObject", object_), _key("kms:Decrypt", "s3")]
    more = [_key("kms:Decrypt", "s3")] if "uploadId" in query else []
    return [Asked("s3:PutObject", object_), _key("kms:GenerateDataKey", "s3"), *more]


def _of_dynamodb(operation: str, body: dict[str, Any]) -> list[Asked]:
    tables = [body["TableName"]] if "TableName" in body else list(body["RequestItems"])
    arns = [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}" for table in tables]
    rights = [Asked(f"dynamodb:{operation}", arn) for arn in arns]
    return [*rights, _key("kms:Decrypt", "dynamodb")]


def _of_sagemaker(
    operation: str, body: dict[str, Any], tags: dict[str, dict[str, str]]
) -> list[Asked]:
    """What is named is what the request is about; what is made, makes the rights to tag it and to
    pass its role on needed too.
    """
    kinds = {"EndpointName": "endpoint", "EndpointConfigName": "endpoint-config"}
    named = [
        f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{body[name]}"
        for name, kind in {**kinds, "ModelName": "model"}.items()
        if name in body
    ]
    given = {each["Key"]: each["Value"] for each in body.get("Tags", ())}
    context = {f"aws:RequestTag/{key}": value for key, value in given.items()}
    if variants := body.get("ProductionVariants"):
        types = (each["InstanceType"] for each in variants if "InstanceType" in each)
        context["sagemaker:InstanceTypes"] = ",".join(types)
    found: list[Asked] = []
    for arn in named:
        kept = {f"aws:ResourceTag/{key}": value for key, value in tags.get(arn, {}).items()}
        found.append(Asked(f"sagemaker:{operation}", arn, tuple({**context, **kept}.items())))
    if operation.startswith("Create"):
        tags[named[0]] = given
        made = (("sagemaker:TaggingAction", operation),)
        found += [Asked("sagemaker:AddTags", named[0], made)] if given else []
    if role := body.get("ExecutionRoleArn"):
        to = (("iam:PassedToService", "sagemaker.amazonaws.com"),)
        found.append(Asked("iam:PassRole", role, to))
    return found


def _key(action: str, service: str) -> Asked:
    """A right over the key that ``service`` encrypts with; which one, the caller knows."""
    return Asked(action, service, (("kms:ViaService", f"{service}.{REGION}.amazonaws.com"),))


@contextmanager
def recorded_aws() -> Iterator[tuple[str, Recorder]]:
    """The URL of moto on a free port of loopback, and what it was asked."""
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    recorder = Recorder(DomainDispatcherApplication(create_backend_app))
    server = make_server(
        "127.0.0.1", 0, recorder, threaded=True, request_handler=MotoRequestHandler
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
