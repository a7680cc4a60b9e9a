"""The OpenAPI 3.0 document of the HTTP server, in the shape that `cog build` gives it.

`python -m tools.cog_schema.openapi predict.py .cog/openapi_schema.json` writes it. Cog's server
reads that file: it answers `/openapi.json` with it and validates every request against it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tools.cog_schema.signature import (
    JSON_TYPES,
    NO_DEFAULT,
    DeclaredInput,
    Signature,
    read_signature,
)

Json = dict[str, Any]

# Keyword of Input() → keyword of JSON schema.
LIMITS = {
    "ge": "minimum",
    "le": "maximum",
    "min_length": "minLength",
    "max_length": "maxLength",
    "regex": "pattern",
}
STATES = ["starting", "processing", "succeeded", "canceled", "failed"]


def document(signature: Signature) -> Json:
    """Return the whole document for one signature."""
    schemas: Json = {
        "Input": _input_object(signature),
        "Output": {"title": "Output", **JSON_TYPES[signature.output]},
        **{item.name: _enumeration(item) for item in signature.inputs if item.choices},
        **_envelopes(),
    }
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": _paths(),
        "components": {"schemas": schemas},
    }


def _input_object(signature: Signature) -> Json:
    result: Json = {
        "title": "Input",
        "type": "object",
        "properties": {
            item.name: _property(item, order) for order, item in enumerate(signature.inputs)
        },
    }
    required = [item.name for item in signature.inputs if item.required]
    return {**result, "required": required} if required else result


def _property(item: DeclaredInput, order: int) -> Json:
    result: Json = {"x-order": order}
    if item.choices:
        result["allOf"] = [_reference(item.name)]
    else:
        kind = JSON_TYPES[item.kind]
        result["title"] = _title(item.name)
        result |= {"type": "array", "items": kind} if item.repeated else kind
    if item.default is not NO_DEFAULT:
        result["default"] = item.default
    if item.optional:
        result["nullable"] = True
    if item.description is not None:
        result["description"] = item.description
    return result | {LIMITS[key]: _whole(value) for key, value in item.limits.items()}


def _whole(value: Any) -> Any:
    """1.0 as 1, as Cog writes it: messages of the server quote the limit."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _enumeration(item: DeclaredInput) -> Json:
    return {
        "title": item.name,
        "description": "An enumeration.",
        "enum": list(item.choices),
        "type": JSON_TYPES[item.kind]["type"],
    }


def _envelopes() -> Json:
    """The schemas of requests and answers, round the input and the output."""
    return {
        "PredictionRequest": _object("PredictionRequest", _request()),
        "PredictionResponse": _object("PredictionResponse", _response()),
        "Status": {
            "title": "Status",
            "description": "An enumeration.",
            "enum": STATES,
            "type": "string",
        },
        "HTTPValidationError": _object(
            "HTTPValidationError",
            {
                "detail": {
                    "title": "Detail",
                    "type": "array",
                    "items": _reference("ValidationError"),
                }
            },
        ),
        "ValidationError": {
            **_object("ValidationError", _validation_error()),
            "required": ["loc", "msg", "type"],
        },
    }


def _request() -> Json:
    text = {"type": "string"}
    return {
        "id": _titled("id", text),
        "input": _reference("Input"),
        "webhook": _titled("webhook", {"type": "string", "format": "uri"}),
        "webhook_events_filter": _titled(
            "webhook_events_filter",
            {"type": "array", "items": {**text, "enum": ["start", "output", "logs", "completed"]}},
        ),
    }


def _response() -> Json:
    text = {"type": "string"}
    moment = {"type": "string", "format": "date-time"}
    return {
        "input": _reference("Input"),
        "output": _reference("Output"),
        "id": _titled("id", text),
        "version": _titled("version", text),
        "created_at": _titled("created_at", moment),
        "started_at": _titled("started_at", moment),
        "completed_at": _titled("completed_at", moment),
        "status": _titled("status", text),
        "error": _titled("error", text),
        "logs": _titled("logs", text),
        "metrics": _titled("metrics", {"type": "object"}),
    }


def _validation_error() -> Json:
    return {
        "loc": {
            "title": "Location",
            "type": "array",
            "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        },
        "msg": {"title": "Message", "type": "string"},
        "type": {"title": "Error Type", "type": "string"},
    }


def _paths() -> Json:
    identifier = {
        "name": "prediction_id",
        "in": "path",
        "required": True,
        "schema": {"title": "Prediction Id", "type": "string"},
    }
    predict: Json = {
        "summary": "Predict",
        "description": "Run a single prediction on the model",
        "requestBody": {"content": _json_content(_reference("PredictionRequest"))},
        "responses": _responses(_reference("PredictionResponse"), validated=True),
    }
    return {
        "/": {"get": _operation("Root", "root__get")},
        "/health-check": {"get": _operation("Healthcheck", "healthcheck_health_check_get")},
        "/predictions": {"post": {**predict, "operationId": "predict_predictions_post"}},
        "/predictions/{prediction_id}": {
            "put": {
                **predict,
                "operationId": "predict_idempotent_predictions__prediction_id__put",
                "parameters": [identifier],
            }
        },
        "/predictions/{prediction_id}/cancel": {
            "post": {
                "summary": "Cancel",
                "operationId": "cancel_predictions__prediction_id__cancel_post",
                "parameters": [identifier],
                "responses": _responses({}, validated=True),
            }
        },
    }


def _operation(summary: str, identifier: str) -> Json:
    return {"summary": summary, "operationId": identifier, "responses": _responses({})}


def _responses(schema: Json, validated: bool = False) -> Json:
    result = {"200": {"description": "Successful Response", "content": _json_content(schema)}}
    if validated:
        result["422"] = {
            "description": "Validation Error",
            "content": _json_content(_reference("HTTPValidationError")),
        }
    return result


def _json_content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _object(title: str, properties: Json) -> Json:
    return {"title": title, "type": "object", "properties": properties}


def _titled(name: str, schema: Json) -> Json:
    return {"title": _title(name), **schema}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def main() -> None:
    """Write the document of a predictor file; the folder of the output is made."""
    parser = argparse.ArgumentParser(prog="tools.cog_schema.openapi", description=main.__doc__)
    parser.add_argument("predictor", type=Path, help="for example predict.py")
    parser.add_argument("output", type=Path, help="for example .cog/openapi_schema.json")
    arguments = parser.parse_args()
    source = arguments.predictor.read_text(encoding="utf-8")
    text = json.dumps(document(read_signature(source)), indent=2, ensure_ascii=False)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    # Another server may read the file at this moment: it sees the old one or the new one whole.
    partial = arguments.output.with_suffix(".part")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(arguments.output)


if __name__ == "__main__":
    main()
