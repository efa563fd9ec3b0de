"""The OpenAPI document of a server: its paths, and the inputs of the model that it serves."""

from mlops_assets.core.records import FeatureField
from mlops_assets.core.requests import NUMBER_TYPES, TEXT_TYPE, RequestSchema
from mlops_assets.core.spec import EVENT_ID
from mlops_assets.serving.answers import Server
from mlops_assets.serving.models import Served
from mlops_assets.serving.protocol import json_bytes

Schema = dict[str, object]

_ERRORS = {
    400: "The request is malformed.",
    401: "A token is needed.",
    404: "There is no such model or version.",
    406: "There is no such form of an answer.",
    408: "The body did not arrive in time.",
    413: "The body is too large, or has too many rows.",
    415: "There is no such form of a request.",
    422: "The request does not fit the model.",
    503: "The server is not ready, or has too many requests: try again.",
}


def openapi_json(server: Server, served: Served, schema: RequestSchema) -> bytes:
    """The document, version 3.1, for the release that is served."""
    name = served.release.use_case
    limits = server.limits
    versions = [str(loaded.served.version) for loaded in served.returnable]
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": f"Endpoint of {name}",
            "version": server.version,
            "description": "Predictions over the Open Inference Protocol V2 and /invocations. "
            f"At most {limits.max_rows} rows and {limits.max_body_bytes} bytes a request. A column "
            "whose value is not known is given as null.",
        },
        "paths": {
            "/v2": {"get": _get("Server metadata", _object("name", "version", "extensions"))},
            "/v2/health/live": {"get": _get("Whether the process runs", _object("live"))},
            "/v2/health/ready": {"get": _ready()},
            "/ping": {"get": _ready()},
            "/metrics": {"get": _get("Prometheus metrics", {"type": "string"}, "text/plain")},
            "/openapi.json": {"get": _get("This document", {"type": "object"})},
            "/invocations": {"post": _invocations(schema)},
            **_models(name, versions, schema),
        },
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "properties": {"error": {"type": "string"}},
                    "required": ["error"],
                }
            }
        },
    }
    if server.tokens is not None:
        components: Schema = document["components"]  # type: ignore[assignment]
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return json_bytes(document)


def _models(name: str, versions: list[str], schema: RequestSchema) -> Schema:
    """The model's paths, with and without a version."""
    paths: Schema = {}
    version: Schema = {
        "name": "version",
        "in": "path",
        "required": True,
        "description": "The champion's version; in a canary, the challenger's too.",
        "schema": {"type": "string", "enum": versions},
    }
    metadata = _object("name", "versions", "platform", "inputs", "outputs")
    for base, parameters in (
        (f"/v2/models/{name}", []),
        (f"/v2/models/{name}/versions/{{version}}", [version]),
    ):
        own: Schema = {"parameters": parameters} if parameters else {}
        paths[base] = {**own, "get": _get("Model metadata", metadata)}
        paths[f"{base}/ready"] = {**own, "get": _ready()}
        paths[f"{base}/infer"] = {**own, "post": _infer(schema)}
    return paths


def _infer(schema: RequestSchema) -> Schema:
    request: Schema = {
        "type": "object",
        "properties": {
            "id": {"type": "string", "maxLength": 256},
            "parameters": {
                "type": "object",
                "properties": {
                    "key": {
                        "type": "string",
                        "maxLength": 256,
                        "description": "Callers of the same key are answered by one model.",
                    },
                    "binary_data_output": {"type": "boolean"},
                },
            },
            "inputs": {
                "type": "array",
                "minItems": 1,
                "maxItems": len(schema.inputs) + 1,
                "items": {"anyOf": [*map(_tensor, schema.inputs), _event_ids()]},
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"name": {"const": schema.output}},
                    "required": ["name"],
                },
            },
        },
        "required": ["inputs"],
    }
    answer = _object("model_name", "model_version", "id", "outputs")
    return {
        "summary": "Predict, as tensors",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request},
                "application/octet-stream": {
                    "schema": {
                        "description": "JSON and binary data behind it, whose border is the header "
                        "Inference-Header-Content-Length"
                    }
                },
            },
        },
        "responses": {
            "200": {
                "description": "One probability for each row.",
                "content": {"application/json": {"schema": answer}, "application/octet-stream": {}},
            },
            **_errors(400, 401, 404, 408, 413, 415, 422, 503),
        },
    }


def _tensor(field: FeatureField) -> Schema:
    kinds = [TEXT_TYPE] if field.type == "category" else list(NUMBER_TYPES)
    return _tensor_schema(field.name, kinds, _value(field))


def _event_ids() -> Schema:
    return _tensor_schema(EVENT_ID, [TEXT_TYPE], {"type": ["string", "null"]})


def _tensor_schema(name: str, kinds: list[str], value: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {
            "name": {"const": name},
            "datatype": {"enum": kinds},
            "shape": {
                "type": "array",
                "items": {"type": "integer", "minimum": 0},
                "minItems": 1,
                "maxItems": 2,
            },
            "data": {"type": "array", "items": value},
        },
        "required": ["name", "datatype", "shape", "data"],
    }


def _value(field: FeatureField) -> Schema:
    """One value. A category that the model does not know is missing to it, and is taken."""
    return {"type": ["number" if field.type == "float" else "string", "null"]}


def _invocations(schema: RequestSchema) -> Schema:
    names = [field.name for field in schema.inputs]
    record: Schema = {
        "type": "object",
        "properties": {
            **{field.name: _value(field) for field in schema.inputs},
            EVENT_ID: {"type": ["string", "null"]},
        },
        "required": sorted(schema.required),
        "additionalProperties": False,
    }
    row: Schema = {"type": "array", "items": {"type": ["number", "string", "null"]}}
    rows: Schema = {"type": "array", "items": {"anyOf": [record, row]}}
    columns: Schema = {
        "type": "object",
        "properties": {
            field.name: {"type": "array", "items": _value(field)} for field in schema.inputs
        },
        "required": sorted(schema.required),
    }
    split: Schema = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"enum": [*names, EVENT_ID]}},
            "data": {"type": "array", "items": row},
            "index": {"type": "array"},
        },
        "required": ["columns", "data"],
        "additionalProperties": False,
    }
    forms: dict[str, Schema] = {
        "dataframe_split": split,
        "dataframe_records": {"type": "array", "items": record},
        "instances": rows,
        "inputs": {"anyOf": [columns, rows]},
    }
    params: Schema = {
        "type": "object",
        "properties": {"key": {"type": "string", "maxLength": 256}},
        "additionalProperties": False,
    }
    request = {
        "oneOf": [
            {
                "type": "object",
                "properties": {form: content, "params": params},
                "required": [form],
                "additionalProperties": False,
            }
            for form, content in forms.items()
        ]
    }
    return {
        "summary": "Predict, as MLflow and SageMaker ask",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request},
                "text/csv": {
                    "schema": {
                        "type": "string",
                        "description": "Columns by the first line; in the order of the inputs "
                        "with the content type text/csv; header=absent",
                    }
                },
            },
        },
        "responses": {
            "200": {
                "description": "One probability for each row.",
                "content": {
                    "application/json": {"schema": _object("predictions")},
                    "text/csv": {"schema": {"type": "string"}},
                },
            },
            **_errors(400, 401, 406, 408, 413, 415, 422, 503),
        },
    }


def _get(summary: str, schema: Schema, kind: str = "application/json") -> Schema:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": {kind: {"schema": schema}}},
            **_errors(401, 404, 503),
        },
    }


def _ready() -> Schema:
    ready: Schema = {"content": {"application/json": {"schema": _object("ready")}}}
    return {
        "summary": "Whether it takes requests",
        "responses": {
            "200": {"description": "It is ready.", **ready},
            "503": {"description": "It is not ready.", **ready},
            **_errors(401, 404),
        },
    }


def _errors(*statuses: int) -> Schema:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        str(status): {"description": _ERRORS[status], "content": content} for status in statuses
    }


def _object(*required: str) -> Schema:
    return {"type": "object", "required": list(required)}
