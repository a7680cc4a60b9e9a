"""/openapi.json and /docs: the routes of other systems' clients, from their declarations."""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from sam3_image.web.context import Group
from sam3_image.web.endpoint import Endpoint

REF = "#/components/schemas/{model}"
PROBLEM = {
    "description": "One line that says what was wrong and what to do",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    name: {"type": "string"} for name in ("message", "detail", "title", "status")
                },
            }
        }
    },
}

Json = dict[str, Any]


def document(groups: Sequence[Group]) -> Json:
    """Return the OpenAPI 3.1 document of the groups' endpoints."""
    endpoints = [endpoint for group in groups for endpoint in group.endpoints]
    models = [
        (model, "validation")
        for endpoint in endpoints
        for model in (endpoint.body, endpoint.answer)
        if model is not None
    ]
    refs, definitions = models_json_schema(list(dict.fromkeys(models)), ref_template=REF)  # type: ignore[arg-type]
    paths: dict[str, Json] = {}
    for group in groups:
        for endpoint in group.endpoints:
            operation = _operation(group, endpoint, refs)
            paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sam3-image",
            "version": "1",
            "description": "SAM 3 behind the routes of other systems' clients; docs/clients.md "
            "says how to set each client up.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def page(described: Json) -> str:
    """Return the same for people: HTML without scripts."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><title>sam3-image: routes</title>"
        "<link rel='stylesheet' href='/docs.css'></head><body><main><h1>Routes of clients</h1>"
        "<p>For programs: <a href='/openapi.json'>/openapi.json</a>.</p>"
    ]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            parts.append(_section(path, method, operation))
    parts.append("<h2>Models</h2>")
    for name, schema in described["components"]["schemas"].items():
        parts.append(f"<h3 id='{html.escape(name)}'>{html.escape(name)}</h3>{_pre(schema)}")
    parts.append("</main></body></html>")
    return "".join(parts)


def group(others: Sequence[Group]) -> Group:
    """Return the group of the two routes, which describes `others`."""
    described = document(others)
    content = page(described)

    async def as_json(_: Request) -> Response:
        return JSONResponse(described)

    async def as_page(_: Request) -> Response:
        return HTMLResponse(content)

    async def style(_: Request) -> Response:
        return Response(STYLE, media_type="text/css")

    routes = [Route("/openapi.json", as_json), Route("/docs", as_page), Route("/docs.css", style)]
    open_paths = tuple(route.path for route in routes)
    return Group("docs", lambda _: routes, open_paths)


def _operation(group: Group, endpoint: Endpoint, refs: Any) -> Json:
    text = inspect.getdoc(endpoint.handle) or ""
    summary, _, description = text.partition("\n")
    good: Json = {"description": "The answer"}
    if endpoint.answer is not None:
        schema = refs[(endpoint.answer, "validation")]
        good["content"] = {"application/json": {"schema": schema}}
    operation: Json = {
        "tags": [group.name],
        "summary": summary,
        "responses": {str(endpoint.status): good, "default": PROBLEM},
    }
    if description.strip():
        operation["description"] = description.strip()
    names = re.findall(r"{(\w+)}", endpoint.path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in names
        ]
    if endpoint.body is not None:
        kind = "multipart/form-data" if endpoint.form else "application/json"
        schema = refs[(endpoint.body, "validation")]
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": schema}}}
    return operation


def _section(path: str, method: str, operation: Json) -> str:
    tag = html.escape(operation["tags"][0])
    return (
        f"<section><h2><b>{method.upper()}</b> {html.escape(path)}</h2>"
        f"<p><i>{tag}</i> {html.escape(operation['summary'])}</p>"
        f"<p>{html.escape(operation.get('description', ''))}</p>"
        f"{_model('takes', operation.get('requestBody', {}))}"
        + "".join(_model("answers", answer) for answer in operation["responses"].values())
        + "</section>"
    )


def _model(verb: str, described: Json) -> str:
    """Return a link to the model of a body, nothing where there is none."""
    for kind, content in described.get("content", {}).items():
        name = content["schema"].get("$ref", "").rpartition("/")[2]
        if name:
            return f"<p>{verb} {kind}: <a href='#{html.escape(name)}'>{html.escape(name)}</a></p>"
    return ""


def _pre(schema: Json) -> str:
    return f"<pre>{html.escape(json.dumps(schema, indent=1, ensure_ascii=False))}</pre>"


STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: auto; padding: 1rem }
h2 { font-size: 1.1rem; border-top: 1px solid #8888; padding-top: 1rem; overflow-wrap: anywhere }
pre { overflow-x: auto; font-size: .85rem }
"""
