"""Routes of Roboflow's inference SDK: /sam3/concept_segment, …/visual_segment, …/embed_image.

Coordinates are pixels of the upright image. Boxes of a concept prompt lie at their top left
corner, boxes of a visual prompt at their center: that is how their API has it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sam3_image.errors import ImageError, InputError, shown
from sam3_image.masks import Mask, Selection, polygons, rle
from sam3_image.request import Request
from sam3_image.web.endpoint import Call, Endpoint, group
from sam3_image.web.pictures import Picture
from sam3_image.web.roboflow_models import (
    MODEL,
    ConceptAnswer,
    ConceptBody,
    ConceptPrompt,
    Echo,
    EmbedAnswer,
    Format,
    Image,
    Images,
    Prediction,
    PromptResult,
    VisualAnswer,
    VisualBody,
    VisualPrompt,
    VisualPrompts,
)
from sam3_image.web.sources import from_base64, from_url

if TYPE_CHECKING:
    from sam3_image.instances import Instances

MAX_IMAGES = 16

# Whatever is asked of an image leaves its encoding in the cache.
CHEAPEST = {"task": "visual", "points": [[0, 0]]}


async def concept_segment(call: Call[ConceptBody]) -> Any:
    """Find every instance of each concept (promptable concept segmentation)."""
    body = call.body
    if not body.model_id.startswith("sam3"):
        raise InputError(
            f"model_id is {shown(body.model_id)}; this server has {MODEL!r} and no other."
        )
    questions = _questions(body)
    selection = Selection(nms_iou_threshold=body.nms_iou_threshold)
    return await _each(call, lambda picture: _concepts(call, picture, questions, selection))


async def visual_segment(call: Call[VisualBody]) -> Any:
    """Pick the one object under each prompt's points or in its box (visual segmentation)."""
    requests = [
        Request.from_inputs(**_target(prompt), multimask_output=call.body.multimask_output)
        for prompt in _visual_prompts(call.body)
    ]
    return await _each(call, lambda picture: _picks(call, picture, requests))


async def embed_image(call: Call[Images]) -> Any:
    """Encode an image ahead of questions about it; later requests may name it by image_id alone."""
    return await _each(call, lambda picture: _embed(call, picture))


async def _concepts(
    call: Call[ConceptBody],
    picture: Picture,
    questions: Sequence[tuple[Request, Sequence[int]]],
    selection: Selection,
) -> ConceptAnswer:
    begin = time.perf_counter()
    segmentation = call.context.segmentation
    found = await segmentation.segment_all(picture.image, questions, selection)
    predictions = await segmentation.call(_predictions, found, call.body.format)
    results = [
        PromptResult(
            prompt_index=index,
            echo=_echo(index, prompt),
            predictions=[
                p for p, of in zip(predictions, found.prompts, strict=True) if of == index
            ],
        )
        for index, prompt in enumerate(call.body.prompts)
    ]
    return ConceptAnswer(prompt_results=results, time=time.perf_counter() - begin)


async def _picks(
    call: Call[VisualBody], picture: Picture, requests: Sequence[Request]
) -> VisualAnswer:
    begin = time.perf_counter()
    predictions = []
    for request in requests:
        found = await call.context.segmentation.segment(picture.image, request)
        form: Format = "rle" if call.body.format == "rle" else "polygon"
        predictions += (await call.context.segmentation.call(_predictions, found, form))[:1]
    return VisualAnswer(predictions=predictions, time=time.perf_counter() - begin)


async def _embed(call: Call[Images], picture: Picture) -> EmbedAnswer:
    begin = time.perf_counter()
    await call.context.segmentation.segment(picture.image, Request.from_inputs(**CHEAPEST))
    name = call.body.image_id or picture.id
    call.context.names.put(name, picture.id)
    return EmbedAnswer(image_id=name, time=time.perf_counter() - begin)


async def _each(call: Call[Any], answer: Any) -> Any:
    """One answer, or a list of them where the client sent a list of images."""
    images = call.body.image
    if not isinstance(images, list):
        return await answer(await _picture(call, images))
    if not 1 <= len(images) <= MAX_IMAGES:
        raise InputError(f"image has {len(images)} entries; send 1 to {MAX_IMAGES} at once.")
    answers = [await answer(await _picture(call, image)) for image in images]
    return [one.model_dump() for one in answers]


async def _picture(call: Call[Any], image: Image | None) -> Picture:
    context = call.context
    if image is None:
        if call.body.image_id is None:
            raise InputError("image is missing; send {'type': 'base64', 'value': …}.")
        return context.pictures.get(context.names.get(call.body.image_id))
    if image.type == "url":
        data = await from_url(image.value, context.fetcher)
    elif image.type == "base64":
        data = from_base64(image.value)
    else:
        raise ImageError(
            f"image has the type {shown(image.type)}; accepted are 'base64' and 'url' (pickled "
            "arrays are never loaded: they can run code)."
        )
    return await context.segmentation.open(data)


def _questions(body: ConceptBody) -> list[tuple[Request, list[int]]]:
    """Requests, each with the places of the prompts that it asks.

    Texts without boxes go into one request, which is faster.
    """
    together: dict[int, float] = {}  # place of a prompt → threshold
    questions: list[tuple[Request, list[int]]] = []
    for index, prompt in enumerate(body.prompts):
        threshold = body.output_prob_thresh
        if prompt.output_prob_thresh is not None:
            threshold = prompt.output_prob_thresh
        if not prompt.boxes:
            together[index] = threshold
            continue
        inputs: dict[str, Any] = {
            "threshold": threshold,
            "boxes": [box.xyxy() for box in prompt.boxes],
            "box_labels": prompt.box_labels,
            "prompts": [prompt.text] if prompt.text else None,
        }
        questions.append((Request.from_inputs(**inputs), [index]))
    if together:
        texts = [body.prompts[index].text or "" for index in together]
        request = Request.from_inputs(prompts=texts, thresholds=list(together.values()))
        questions.append((request, list(together)))
    return questions


def _visual_prompts(body: VisualBody) -> list[VisualPrompt]:
    given = body.prompts
    prompts = given.prompts if isinstance(given, VisualPrompts) else given
    if prompts is None:
        raise InputError("prompts is missing; give points or a box for each object to segment.")
    return prompts if isinstance(prompts, list) else [prompts]


def _target(prompt: VisualPrompt) -> dict[str, Any]:
    """Return the inputs of `predict()` for one object."""
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


def _echo(index: int, prompt: ConceptPrompt) -> Echo:
    kind = prompt.type or ("text" if prompt.text else "visual")
    return Echo(prompt_index=index, type=kind, text=prompt.text, num_boxes=len(prompt.boxes or ()))


def _predictions(found: Instances, form: Format) -> list[Prediction]:
    return [
        Prediction(masks=_masks(mask, form), confidence=float(score), format=form)
        for mask, score in zip(found.iter_masks(), found.scores, strict=True)
    ]


def _masks(mask: Mask, form: Format) -> Any:
    if form == "rle":
        return rle.encode(mask)
    return [outline.tolist() for outline in polygons.outlines(mask)]


GROUP = group(
    "roboflow",
    Endpoint("POST", "/sam3/concept_segment", concept_segment, ConceptBody, ConceptAnswer),
    Endpoint("POST", "/sam3/visual_segment", visual_segment, VisualBody, VisualAnswer),
    Endpoint("POST", "/sam3/embed_image", embed_image, Images, EmbedAnswer),
)
