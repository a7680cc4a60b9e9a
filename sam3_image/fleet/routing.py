"""A request → the key of the replica that it goes to, without decoding any image."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import anyio.to_thread
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Scope

from sam3_image.errors import ImageError
from sam3_image.web import MAX_PARTS, from_base64, image_id

# What follows these in a path or an address is an id that a replica gave out.
KEPT = re.compile(
    r"/(?:v1/predictions|v1/files|v2/job/async|api/ai/queue|api/ai/results|api/pictures)/(\w+)"
)
KEY = re.compile(r"[0-9a-f]{32}$")  # an image's id, or the end of another id
# Where clients put the image, in JSON and in forms, and the names that they give to images.
IMAGES = ("picture", "image", "input_image", "input")
FORM_IMAGES = ("image", "input", "content")
# A POST to these starts work that goes on after its answer, or keeps something under a new id.
STARTS = (
    *("/v1/predictions", "/v1/models/", "/v1/deployments/", "/v1/files"),
    *("/v2/job/async", "/api/ai/queue"),
)


@dataclass(frozen=True)
class Route:
    """Where a request goes.

    key: requests of one key go to one replica; None where any will do.
    others: ids of images and files that it names and that another replica may have.
    repeatable: whether it may be sent once more when a replica ends while it works on it.
    """

    key: str | None
    others: tuple[str, ...] = ()
    repeatable: bool = True


async def route_of(scope: Scope, path: str, body: bytes) -> Route:
    """The route of a request. path: below the prefix of a proxy. Whatever it holds is no error."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    repeatable = scope["method"] in ("GET", "HEAD") or not path.startswith(STARTS)
    if kept := KEPT.search(path):
        return Route(_key_in(kept[1]), (), repeatable)
    if scope["method"] != "POST" or not body:
        return Route(None, (), repeatable)
    if headers.get("content-type", "").startswith("multipart/form-data"):
        return Route(await _form_key(scope, body), (), repeatable)
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    value_range = query.get("value_range", ["auto"])[-1]  # is part of the id of an uploaded image
    key, others = await anyio.to_thread.run_sync(_body_key, body, value_range)
    return Route(key, tuple(id for id in others if _key_in(id) != key), repeatable)


def _body_key(body: bytes, value_range: str) -> tuple[str | None, list[str]]:
    """The key of a body that is JSON or an image file, and the ids of other images in it."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return image_id(body, value_range), []
    if not isinstance(values, Mapping):
        return None, []
    inputs = [one for one in (values.get("inputs"), values.get("input")) if isinstance(one, dict)]
    others = [_id_in(one.get("reference_image")) for one in inputs]
    return _json_key(values), [id for id in others if id]


def _json_key(values: Mapping[str, Any]) -> str | None:
    if isinstance(name := values.get("image_id"), str):  # with the image, or alone later
        return _key_in(name) or _key_of(name)
    for field in IMAGES:
        if values.get(field):
            return _image_key(values[field])
    tasks = values.get("tasks")  # of Label Studio, whose fields have any name
    if isinstance(tasks, list) and tasks and isinstance(tasks[0], Mapping):
        return _key_of(json.dumps(tasks[0].get("data"), sort_keys=True))
    return None


def _image_key(value: Any) -> str | None:
    """The key of an image in any form in which a client sends it."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, Mapping):
        value = value.get("value") or value.get("image")
    if not isinstance(value, str):
        return None
    if id := _id_in(value):
        return _key_in(id)
    try:
        return image_id(from_base64(value))
    except ImageError:  # an address, or nothing that a replica will take
        return _key_of(value)


def _id_in(value: Any) -> str | None:
    """The id of something kept, where that is an image's id or the address of an uploaded file."""
    if not isinstance(value, str) or len(value) > 2000:
        return None
    if KEY.fullmatch(value):
        return value
    found = KEPT.search(value)
    return found[1] if found and _key_in(found[1]) else None


def _key_in(id: str) -> str | None:
    found = KEY.search(id)
    return found[0] if found else None


def _key_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


async def _form_key(scope: Scope, body: bytes) -> str | None:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(scope, receive).form(max_files=MAX_PARTS, max_fields=MAX_PARTS) as form:
            for name in FORM_IMAGES:
                part = form.get(name)
                if isinstance(part, UploadFile):
                    return await anyio.to_thread.run_sync(image_id, await part.read())
    except MultiPartException:  # a replica says what is wrong
        pass
    return None
