"""Routes of Roboflow's inference SDK: /sam3/concept_segment, …/visual_segment, …/embed_image.

Coordinates are pixels of the upright image. Boxes of a concept prompt lie at their top left
corner, boxes of a visual prompt at their center: that is how their API has it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sam3_image.errors import ImageError, InputError, shown
from sam3_image.masks import Mask, Selection, polygons, rle
from sam3_image.request import Request
from sam3_image.web.clients.roboflow_models import (
    MODEL,
    ConceptAnswer,
    ConceptBody,
    ConceptPrompt,
    EmbedAnswer,
    Format,
    ImagesBody,
    PromptEcho,
    PromptResult,
    RoboflowPrediction,
    SentImage,
    VisualAnswer,
    VisualBody,
    VisualPrompt,
    VisualPrompts,
)
from sam3_image.web.image_input import from_base64, from_url
from sam3_image.web.previous import LOGITS, PreviousLogits
from sam3_image.web.routes import client_router
from sam3_image.web.segmentation import KnownImage
from sam3_image.web.state import Server, ServerState

if TYPE_CHECKING:
    from sam3_image.instances import Instances

MAX_IMAGES = 16
MIN_POINTS = 3  # of a polygon
NAMES = "image_id"  # the store of digests by the names that clients gave to images

# Whatever is asked of an image leaves its encoding in the cache.
CHEAPEST = {"task": "visual", "points": [[0, 0]]}

A = TypeVar("A")

router = client_router("roboflow")


@router.post("/sam3/concept_segment")
async def concept_segment(body: ConceptBody, server: Server) -> ConceptAnswer | list[ConceptAnswer]:
    """Find every instance of each concept (promptable concept segmentation)."""
    if not (body.model_id or MODEL).startswith("sam3"):
        raise InputError(
            f"model_id is {shown(body.model_id)}; this server has {MODEL!r} and no other."
        )
    questions = _questions(body)
    selection = Selection(nms_iou_threshold=body.nms_iou_threshold)
    return await _each(
        server, body, lambda known: _concepts(server, body, known, questions, selection)
    )


@router.post("/sam3/visual_segment")
async def visual_segment(body: VisualBody, server: Server) -> VisualAnswer | list[VisualAnswer]:
    """The one object under each prompt's points or in its box; every object without a prompt."""
    requests = [
        Request.from_inputs(**_target(prompt), multimask_output=body.multimask_output)
        for prompt in _visual_prompts(body)
    ]
    if not requests:
        every = Request.from_inputs(task="everything")
        return await _each(server, body, lambda known: _everything(server, body, known, every))
    return await _each(server, body, lambda known: _picks(server, body, known, requests))


@router.post("/sam3/embed_image")
async def embed_image(body: ImagesBody, server: Server) -> EmbedAnswer | list[EmbedAnswer]:
    """Encode an image ahead of questions about it; later requests may name it by image_id alone."""
    return await _each(server, body, lambda known: _embed(server, body, known))


async def _concepts(
    server: ServerState,
    body: ConceptBody,
    known: KnownImage,
    questions: Sequence[tuple[Request, Sequence[int]]],
    selection: Selection,
) -> ConceptAnswer:
    begin = time.perf_counter()
    found = await server.segmentation.segment_all(known.image, questions, selection)
    predictions = await server.segmentation.call(_predictions, found, body.format)
    results = [
        PromptResult(
            prompt_index=index,
            echo=_echo(index, prompt),
            predictions=[
                p for p, of in zip(predictions, found.prompts, strict=True) if of == index
            ],
        )
        for index, prompt in enumerate(body.prompts)
    ]
    return ConceptAnswer(prompt_results=results, time=time.perf_counter() - begin)


async def _picks(
    server: ServerState, body: VisualBody, known: KnownImage, requests: Sequence[Request]
) -> VisualAnswer:
    begin = time.perf_counter()
    predictions = []
    previous = PreviousLogits(server.store(LOGITS), f"roboflow {known.id}")
    for request in requests:
        asked = previous.applied(request) if body.load_logits_from_cache else request
        found = await server.segmentation.segment(known.image, asked)
        if body.save_logits_to_cache:
            previous.keep(request, found)
        predictions += (await server.segmentation.call(_predictions, found, _form(body)))[:1]
    return VisualAnswer(predictions=predictions, time=time.perf_counter() - begin)


async def _everything(
    server: ServerState, body: VisualBody, known: KnownImage, request: Request
) -> VisualAnswer:
    begin = time.perf_counter()
    found = await server.segmentation.segment(known.image, request)
    predictions = await server.segmentation.call(_predictions, found, _form(body))
    return VisualAnswer(predictions=predictions, time=time.perf_counter() - begin)


def _form(body: VisualBody) -> Format:
    return "rle" if body.format == "rle" else "polygon"


async def _embed(server: ServerState, body: ImagesBody, known: KnownImage) -> EmbedAnswer:
    begin = time.perf_counter()
    await server.segmentation.segment(known.image, Request.from_inputs(**CHEAPEST))
    name = body.image_id or known.id
    server.store(NAMES).put(name, known.id)
    return EmbedAnswer(image_id=name, time=time.perf_counter() - begin)


async def _each(
    server: ServerState, body: ImagesBody, answer: Callable[[KnownImage], Awaitable[A]]
) -> A | list[A]:
    """One answer, or a list of them where the client sent a list of images."""
    images = body.image
    if not isinstance(images, list):
        return await answer(await _known(server, body, images))
    if not 1 <= len(images) <= MAX_IMAGES:
        raise InputError(f"image has {len(images)} entries; send 1 to {MAX_IMAGES} at once.")
    return [await answer(await _known(server, body, image)) for image in images]


async def _known(server: ServerState, body: ImagesBody, image: SentImage | None) -> KnownImage:
    if image is None:
        if body.image_id is None:
            raise InputError("image is missing; send {'type': 'base64', 'value': …}.")
        digest = server.store(NAMES).get(body.image_id)
        return KnownImage(digest, server.images.get(digest))
    if image.type == "url":
        data = await from_url(image.value, server.fetcher)
    elif image.type == "base64":
        data = from_base64(image.value)
    else:
        raise ImageError(
            f"image has the type {shown(image.type)}; accepted are 'base64' and 'url' (pickled "
            "arrays are never loaded: they can run code)."
        )
    return await server.segmentation.known_image(data)


def _questions(body: ConceptBody) -> list[tuple[Request, list[int]]]:
    """One request for all prompts, with their places in the answer."""
    thresholds = []
    prompts: list[str | dict[str, Any]] = []
    for prompt in body.prompts:
        own = prompt.output_prob_thresh
        thresholds.append(body.output_prob_thresh if own is None else own)
        if not prompt.boxes:
            prompts.append(prompt.text or "")
            continue
        boxes = [box.xyxy() for box in prompt.boxes]
        text, labels = prompt.text or None, prompt.box_labels
        prompts.append({"text": text, "boxes": boxes, "box_labels": labels})
    request = Request.from_inputs(prompts=prompts, thresholds=thresholds)
    return [(request, list(range(len(prompts))))]


def _visual_prompts(body: VisualBody) -> list[VisualPrompt]:
    given = body.prompts
    prompts = given.prompts if isinstance(given, VisualPrompts) else given
    if prompts is None and (body.points or body.box):
        prompts = VisualPrompt(points=body.points, box=body.box)
    if prompts is None:
        return []
    return prompts if isinstance(prompts, list) else [prompts]


def _target(prompt: VisualPrompt) -> dict[str, Any]:
    """The inputs of `predict()` for one object."""
    inputs: dict[str, Any] = {"task": "visual"}
    if prompt.points:
        inputs["points"] = [[point.x, point.y] for point in prompt.points]
        inputs["point_labels"] = [int(point.positive) for point in prompt.points]
    if prompt.box:
        x, y, half_width, half_height = (
            prompt.box.x,
            prompt.box.y,
            prompt.box.width / 2,
            prompt.box.height / 2,
        )
        inputs["boxes"] = [[x - half_width, y - half_height, x + half_width, y + half_height]]
    return inputs


def _echo(index: int, prompt: ConceptPrompt) -> PromptEcho:
    kind = prompt.type or ("text" if prompt.text else "visual")
    return PromptEcho(
        prompt_index=index, type=kind, text=prompt.text, num_boxes=len(prompt.boxes or ())
    )


def _predictions(found: Instances, form: Format) -> list[RoboflowPrediction]:
    return [
        RoboflowPrediction(masks=contours_or_rle(mask, form), confidence=float(score), format=form)
        for mask, score in zip(found.iter_masks(), found.scores, strict=True)
    ]


def contours_or_rle(mask: Mask, form: Format) -> Any:
    """COCO's run lengths, or the outer contours [[x, y], …] of a mask."""
    if form == "rle":
        return rle.encode(mask)
    return [_three_points(outline) for outline in polygons.outlines(mask)]


def _three_points(outline: NDArray[np.int32]) -> list[list[int]]:
    """The points of an outline, repeated where a pixel or a line has fewer than three.

    Readers of polygons drop those with fewer, and with them the whole instance.
    """
    points: list[list[int]] = outline.tolist()
    return [*points, *points[:1] * (MIN_POINTS - len(points))]
