"""Files of the replicate client: uploaded first, named by their URL in a prediction."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, UploadFile
from fastapi import Request as HttpRequest

from sam3_image.errors import InputError, shown
from sam3_image.web.json_text import parse_json
from sam3_image.web.routes import Body, BoundedRoute
from sam3_image.web.state import Server, address
from sam3_image.web.store import new_id

UPLOADS = "file"

router = APIRouter(route_class=BoundedRoute)


@dataclass(frozen=True)
class Upload:
    """A file that a client sent. created: seconds since the epoch."""

    name: str
    media_type: str
    data: bytes
    metadata: dict[str, Any]
    created: float = field(default_factory=time.time)


class UploadedFile(Body):
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


class UploadedFiles(Body):
    """All files that are kept."""

    results: list[UploadedFile]
    next: str | None = None
    previous: str | None = None


@router.post("/v1/files", status_code=201)
async def upload(
    http: HttpRequest,
    server: Server,
    content: UploadFile,
    metadata: Annotated[Any, Form(json_schema_extra={"type": "string"})] = "{}",
) -> UploadedFile:
    """Keep a file that a prediction can name by its URL. metadata: JSON, given back as it is."""
    text = metadata if isinstance(metadata, str) else await metadata.read()
    kept = Upload(
        name=content.filename or "file",
        media_type=content.content_type or "application/octet-stream",
        data=await content.read(),
        metadata=_metadata(text),
    )
    file_id = new_id()
    server.store(UPLOADS).put(file_id, kept, len(kept.data) + len(text))
    return _uploaded(http, file_id, kept)


@router.get("/v1/files")
async def uploads(http: HttpRequest, server: Server) -> UploadedFiles:
    """All files that are kept, the newest first."""
    kept = server.store(UPLOADS).items()
    return UploadedFiles(results=[_uploaded(http, key, file) for key, file in kept])


@router.get("/v1/files/{id}")
async def uploaded(id: str, http: HttpRequest, server: Server) -> UploadedFile:
    """A file that was uploaded: what is known of it, not its content."""
    return _uploaded(http, id, server.store(UPLOADS).get(id))


@router.delete("/v1/files/{id}", status_code=204)
async def forget(id: str, server: Server) -> None:
    """Forget a file."""
    server.store(UPLOADS).get(id)
    server.store(UPLOADS).remove(id)


def _uploaded(http: HttpRequest, file_id: str, file: Upload) -> UploadedFile:
    digest = hashlib.sha256(file.data).hexdigest()
    return UploadedFile(
        id=file_id,
        name=file.name,
        content_type=file.media_type,
        size=len(file.data),
        etag=digest,
        checksums={"sha256": digest},
        metadata=file.metadata,
        created_at=iso_time(file.created),
        expires_at=None,
        urls={"get": address(http, f"/v1/files/{file_id}")},
    )


def _metadata(text: str | bytes) -> dict[str, Any]:
    metadata = parse_json("metadata", text)
    if not isinstance(metadata, dict):
        raise InputError(f"metadata is {shown(metadata)}; give a JSON object, or leave it out.")
    return metadata


def iso_time(seconds: float) -> str:
    """A time since the epoch as the client reads it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()
