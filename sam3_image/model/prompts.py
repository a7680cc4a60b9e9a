"""Request fields → typed, validated prompts.

Two tasks that are often mixed up have two types. `Find` is promptable concept segmentation (PCS):
every instance of a text and/or of exemplar boxes. `Pick` is promptable visual segmentation (PVS):
the one object under points and/or a box. Nothing that was given is silently ignored: inputs that
do not go together are refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from sam3_image.errors import InputError, shown
from sam3_image.model.geometry import Box, Point, parse_boxes, parse_labels, parse_points

DEFAULT_PROMPT = "person"  # of the `prompt` input; kept for callers of the drop-in interface
DEFAULT_THRESHOLD = 0.5
VISUAL = "visual"  # the word that SAM 3 was trained to read beside exemplars without text
MAX_PROMPTS = 16
MAX_CHARACTERS = 500


@dataclass(frozen=True)
class Concept:
    """One concept to find: a text, exemplar boxes, or both.

    text: what to find; "visual" where only exemplars say it.
    boxes: exemplars, xyxy in pixels of the upright image; empty if there are none.
    labels: one per box, 1 for "find more like this", 0 for "exclude what looks like this".
    """

    text: str
    boxes: tuple[Box, ...] = ()
    labels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Target:
    """One object to pick: points on and off it, a box around it, or both.

    points: (x, y) in pixels of the upright image; labels: 1 on the object, 0 off it.
    """

    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None


@dataclass(frozen=True)
class Find:
    """All instances of each concept with a score above `threshold`."""

    concepts: tuple[Concept, ...]
    threshold: float

    def __str__(self) -> str:
        """One line for the log."""
        texts = ", ".join(shown(concept.text) for concept in self.concepts)
        labels = self.concepts[0].labels
        exemplars = f" with {sum(labels)} positive and {labels.count(0)} negative exemplars"
        return f"find {texts}{exemplars if labels else ''}, threshold {self.threshold}"


@dataclass(frozen=True)
class Pick:
    """One mask per target, or its three candidates where `multimask`."""

    targets: tuple[Target, ...]
    multimask: bool

    def __str__(self) -> str:
        """One line for the log."""
        points, boxed = len(self.targets[0].points), self.targets[0].box is not None
        if not points:
            return f"pick the objects in {len(self.targets)} boxes"
        return f"pick the object under {points} points{' in a box' if boxed else ''}"


@dataclass(frozen=True)
class Query:
    """The request's prompt fields, named and typed as the inputs of `predict()`."""

    task: str = "concept"
    prompt: str = DEFAULT_PROMPT
    prompts: list[str] | None = None
    boxes: str | None = None
    box_labels: str | None = None
    points: str | None = None
    point_labels: str | None = None
    multimask_output: bool = False
    threshold: float = DEFAULT_THRESHOLD
    mask_threshold: float = 0.5
    nms_iou_threshold: float | None = None
    max_instances: int | None = None
    input_size_percent: int = 100

    def __post_init__(self) -> None:
        """Refuse values that need no image to be judged; raises InputError."""
        if self.task not in ("concept", "visual"):
            raise InputError(
                f"task is {shown(self.task)}; allowed are 'concept' (find every instance) and "
                "'visual' (pick the object under points or a box)."
            )
        check_range("threshold", self.threshold, 0, 1)
        check_range("mask_threshold", self.mask_threshold, 0, 1)
        check_range("input_size_percent", self.input_size_percent, 25, 100)
        if self.nms_iou_threshold is not None:
            check_range("nms_iou_threshold", self.nms_iou_threshold, 0, 1)
        if self.max_instances is not None:
            check_range("max_instances", self.max_instances, 1, math.inf)
        _check_combination(self)


def parse(query: Query, size: tuple[int, int]) -> Find | Pick:
    """The typed request.

    query: the request's fields.
    size: (height, width) of the upright image in pixels, which all coordinates refer to.
    Raises InputError: malformed JSON, wrong nesting, too many, out of the image, bad text.
    """
    boxes = parse_boxes("boxes", query.boxes, size)
    if query.task == "visual":
        return _pick(query, boxes, size)
    labels = parse_labels("box_labels", query.box_labels, len(boxes), "boxes")
    # The default prompt beside boxes means that no text was given: a search by exemplars alone.
    # (Who means the word itself beside boxes says prompts=["person"].)
    exemplars_alone = bool(boxes) and query.prompts is None and query.prompt == DEFAULT_PROMPT
    texts = (VISUAL,) if exemplars_alone else _texts(query)
    concepts = tuple(Concept(text=text, boxes=boxes, labels=labels) for text in texts)
    return Find(concepts=concepts, threshold=float(query.threshold))


def check_range(name: str, value: object, low: float, high: float) -> None:
    """Raise InputError unless `value` is a number with low ≤ value ≤ high (NaN is refused)."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # type: ignore[operator]
        allowed = f"from {low} to {high}" if math.isfinite(high) else f"of at least {low}"
        raise InputError(f"{name} is {shown(value)}; give a number {allowed}.")


class _Rule(NamedTuple):
    """A refusal: it applies when `broken`, and says what goes together."""

    broken: bool
    sentence: str


def _check_combination(query: Query) -> None:
    has_text = query.prompts is not None or query.prompt != DEFAULT_PROMPT
    has_points = query.points is not None or query.point_labels is not None
    visual = query.task == "visual"
    rules = (
        _Rule(
            not visual and has_points,
            "points and point_labels go with task='visual', not with task='concept'; "
            "for exemplars of a concept give boxes.",
        ),
        _Rule(
            not visual and query.multimask_output,
            "multimask_output goes with task='visual'; task='concept' returns every instance.",
        ),
        _Rule(
            visual and has_text,
            "prompt and prompts go with task='concept', not with task='visual'; "
            "to pick an object give points, boxes, or both.",
        ),
        _Rule(
            visual and query.box_labels is not None,
            "box_labels go with the exemplar boxes of task='concept'; "
            "with task='visual' each box is one object and has no label.",
        ),
        _Rule(
            visual and query.threshold != DEFAULT_THRESHOLD,
            "threshold goes with task='concept'; task='visual' returns every object that was "
            "asked for, with its score in the annotations. Leave threshold out.",
        ),
        _Rule(
            visual and query.points is None and query.boxes is None,
            "task='visual' needs points, boxes, or both, and none was given.",
        ),
        _Rule(
            query.prompts is not None and query.prompt != DEFAULT_PROMPT,
            f"prompt ({shown(query.prompt)}) and prompts were both given; give one of them.",
        ),
        _Rule(
            query.box_labels is not None and query.boxes is None,
            "box_labels were given without boxes; give both, or no labels.",
        ),
        _Rule(
            query.point_labels is not None and query.points is None,
            "point_labels were given without points; give both, or no labels.",
        ),
    )
    for rule in rules:
        if rule.broken:
            raise InputError(rule.sentence)


def _texts(query: Query) -> tuple[str, ...]:
    if query.prompts is None:
        return (_text("prompt", query.prompt),)
    if not 1 <= len(query.prompts) <= MAX_PROMPTS:
        raise InputError(
            f"prompts has {len(query.prompts)} entries; give 1 to {MAX_PROMPTS} in one request."
        )
    return tuple(_text(f"prompts[{index}]", text) for index, text in enumerate(query.prompts))


def _text(name: str, text: object) -> str:
    if not isinstance(text, str):
        raise InputError(f"{name} is {shown(text)}; give a text such as 'red circle'.")
    if not text.strip():
        raise InputError(f"{name} is blank ({shown(text)}); name what to find, e.g. 'person'.")
    if not _is_unicode(text):
        raise InputError(f"{name} is {shown(text)}, which is no valid Unicode; type it again.")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"{name} has {len(text)} characters; at most {MAX_CHARACTERS} are allowed. Shorten it."
        )
    return text


def _is_unicode(text: str) -> bool:
    """False for half a surrogate pair, which JSON can carry but no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pick(query: Query, boxes: tuple[Box, ...], size: tuple[int, int]) -> Pick:
    points = parse_points("points", query.points, size)
    labels = parse_labels("point_labels", query.point_labels, len(points), "points")
    if points and len(boxes) > 1:
        raise InputError(
            f"points go with one box at most, and {len(boxes)} boxes were given; "
            "points and one box describe one object, several boxes are several objects."
        )
    if points and not boxes and not any(labels):
        raise InputError(
            f"point_labels are all 0 ({len(labels)} points off the object); "
            "give at least one point on it (label 1), or a box around it."
        )
    if points:
        targets: tuple[Target, ...] = (
            Target(points=points, labels=labels, box=boxes[0] if boxes else None),
        )
    else:
        targets = tuple(Target(box=box) for box in boxes)
    return Pick(targets=targets, multimask=query.multimask_output)
