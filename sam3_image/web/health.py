"""Routes for whoever runs the server: is it alive, can it answer, how is it doing."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from sam3_image.web.problems import NotReadyError
from sam3_image.web.state import Server

PATHS = ("/healthz", "/readyz", "/metrics")  # none of them asks for the token

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(server: Server) -> dict[str, str]:
    """Say that the model answers; 503 while it is loaded and after its device was lost."""
    if server.service is None:
        raise NotReadyError("The model is still being loaded: try again in a moment.")
    if not server.ready:
        raise NotReadyError(
            "The model cannot answer: its device was lost, or no files can be written. "
            "Start the server again."
        )
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
async def metrics(server: Server) -> Response:
    """Give the measures in Prometheus' text format."""
    return Response(server.measures.text(), media_type=CONTENT_TYPE_LATEST)
