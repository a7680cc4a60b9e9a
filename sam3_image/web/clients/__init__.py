"""The routes of other systems' clients: one module, and one line here, for each."""

from __future__ import annotations

from fastapi import APIRouter

from sam3_image.web.clients import (
    cvat,
    label_studio,
    openai_images,
    oxen,
    prodia,
    replicate,
    roboflow,
    x_anylabeling,
)

# By the names that SAM3_WEB_ROUTES takes.
CLIENTS: dict[str, APIRouter] = {
    "roboflow": roboflow.router,
    "replicate": replicate.router,
    "prodia": prodia.router,
    "oxen": oxen.router,
    "openai": openai_images.router,
    "label-studio": label_studio.router,
    "cvat": cvat.router,
    "x-anylabeling": x_anylabeling.router,
}
