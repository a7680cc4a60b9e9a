"""Files of the replicate client: uploaded first, named by their URL in a prediction."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.responses import Response

from sam3_image.errors import InputError, shown
from sam3_image.web.endpoint import Body, Call, Endpoint
from sam3_image.web.shelf import File, new_id


class UploadBody(Body):
    """A file to use as an input. metadata: JSON, given back as it is."""

    content: Any = Field(json_schema_extra={"type": "string", "format": "binary"})
    metadata: str | None = None


class Uploaded(Body):
    """A file that was uploaded; `urls.get` is what a prediction names it by."""

    id: str
    name: str
    content_type: str
    size: int
    etag: str
    checksums: dict[str, str]
    metadata: dict[str, Any]
    created_at: str
    expires_at: str | None
    urls: dict[str, str]


class Files(Body):
    """All files that are kept."""

    results: list[Uploaded]
    next: str | None = None
    previous: str | None = None


async def upload(call: Call[UploadBody]) -> Uploaded:
    """Keep a file that a prediction can name by its URL."""
    content = call.body.content
    if not isinstance(content, UploadFile):
        raise InputError("content is missing; send the file as the part 'content' of a form.")
    name, media_type = content.filename or "file", content.content_type or ""
    kept = File(name, media_type or "application/octet-stream", await content.read())
    file_id = new_id()
    call.context.files.put(file_id, kept, len(kept.content))
    return _uploaded(call, file_id, kept, _metadata(call.body.metadata))


async def uploaded(call: Call[None]) -> Uploaded:
    """Return a file that was uploaded (what is known of it, not its content)."""
    file_id = call.path("id")
    return _uploaded(call, file_id, call.context.files.get(file_id))


async def uploads(call: Call[None]) -> Files:
    """All files that are kept, the newest first."""
    return Files(
        results=[_uploaded(call, key, file) for key, file in call.context.files.items()],
        next=None,
        previous=None,
    )


async def forget(call: Call[None]) -> Response:
    """Forget a file."""
    call.context.files.get(call.path("id"))
    call.context.files.remove(call.path("id"))
    return Response(status_code=204)


def _uploaded(
    call: Call[Any], file_id: str, file: File, metadata: dict[str, Any] | None = None
) -> Uploaded:
    return Uploaded(
        id=file_id,
        name=file.name,
        content_type=file.media_type,
        size=len(file.content),
        etag=file.sha256,
        checksums={"sha256": file.sha256},
        metadata=metadata or {},
        created_at=iso_time(file.created),
        expires_at=None,
        urls={"get": call.url(f"/v1/files/{file_id}")},
    )


def _metadata(text: str | None) -> dict[str, Any]:
    try:
        metadata = json.loads(text or "{}")
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise InputError(f"metadata is {shown(text)}; give a JSON object, or leave it out.")
    return metadata


def iso_time(seconds: float) -> str:
    """Return a time since the epoch as the client reads it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


FILES = (
    Endpoint("POST", "/v1/files", upload, UploadBody, Uploaded, form=True, status=201),
    Endpoint("GET", "/v1/files", uploads, None, Files),
    Endpoint("GET", "/v1/files/{id}", uploaded, None, Uploaded),
    Endpoint("DELETE", "/v1/files/{id}", forget),
)
