"""The prompt inputs of `predict()` → what the model can be asked.

Nothing that was given is silently ignored: inputs that do not go together are refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import Field, PrivateAttr

from sam3_image.errors import InputError, Options, shown
from sam3_image.model.geometry import (
    fit_boxes,
    fit_points,
    read_boxes,
    read_labels,
    read_points,
)
from sam3_image.model.prompts import VISUAL, Find, Pick, Target

TASKS = ("concept", "visual")
DEFAULT_PROMPT = "person"  # of the drop-in interface
MAX_PROMPTS = 16
MAX_CHARACTERS = 500


class Prompts(Options):
    """The prompt inputs of `predict()`, with their names and defaults; checked when made.

    Boxes, points and their labels are JSON texts, lists or arrays. Raises InputError for whatever
    can be refused without the image: values out of range, bad JSON, blank or long texts, inputs
    that do not go together.
    """

    prompt: str = Field(
        default=DEFAULT_PROMPT,
        description=(
            "The concept to find, in a few words (at most 500 characters; SAM 3 reads 32 tokens, "
            "lighter weights fewer). With boxes, the default means the boxes alone"
        ),
    )
    threshold: float = Field(
        default=0.5, ge=0, le=1, description="Keep instances with a score above this"
    )
    task: str = Field(
        default="concept",
        json_schema_extra={"enum": list(TASKS)},
        description=(
            "concept finds every instance of a text or of exemplar boxes; visual picks the "
            "object under points or a box"
        ),
    )
    prompts: list[str] | None = Field(
        default=None, description="Up to 16 concepts in one request, instead of prompt"
    )
    boxes: Any = Field(
        default=None,
        description=(
            "JSON, [[x0,y0,x1,y1],...] in pixels of the upright image. concept: exemplars; "
            "visual: one object per box"
        ),
    )
    box_labels: Any = Field(
        default=None,
        description=(
            "JSON, one label per exemplar box: 1 find more like this, 0 exclude what looks "
            "like this. Default: all 1"
        ),
    )
    points: Any = Field(
        default=None,
        description=(
            "JSON, [[x,y],...] in pixels of the upright image, all on one object; visual only"
        ),
    )
    point_labels: Any = Field(
        default=None,
        description="JSON, one label per point: 1 on the object, 0 off it. Default: all 1",
    )
    multimask_output: bool = Field(
        default=False,
        description=(
            "visual: return the three candidates of each object, best first, instead of one mask"
        ),
    )
    mask_threshold: float = Field(
        default=0.5, ge=0, le=1, description="Probability above which a pixel belongs to the mask"
    )
    input_size_percent: int = Field(
        default=100,
        ge=25,
        le=100,
        description="Resolution of the encoder in percent, for speed and memory",
    )
    _ask: Find | Pick = PrivateAttr()

    def model_post_init(self, _context: object) -> None:
        """Hold every rule that does not depend on the image."""
        if self.task not in TASKS:
            raise InputError(
                f"task is {shown(self.task)}; choose 'concept' (find every instance) or 'visual' "
                "(pick the object under points or a box)."
            )
        _check_together(self)
        self._ask = self._pick() if self.task == "visual" else self._find()

    def on(self, size: tuple[int, int]) -> Find | Pick:
        """Return what is asked of an upright image of `size` (height, width) in pixels.

        Raises InputError for coordinates outside the image.
        """
        ask = self._ask
        if isinstance(ask, Find):
            boxes = fit_boxes("boxes", ask.boxes, size)
            return Find(ask.concepts, ask.threshold, boxes, ask.labels)
        boxes = fit_boxes("boxes", [t.box for t in ask.targets if t.box], size)
        fitted = iter(boxes)
        targets = tuple(
            Target(
                fit_points("points", target.points, size),
                target.labels,
                next(fitted) if target.box else None,
            )
            for target in ask.targets
        )
        return Pick(targets, ask.multimask)

    @property
    def concepts(self) -> tuple[str, ...]:
        """The texts that are looked for; none for *pick*."""
        return self._ask.concepts if isinstance(self._ask, Find) else ()

    def _find(self) -> Find:
        boxes = () if self.boxes is None else read_boxes("boxes", self.boxes)
        labels = read_labels("box_labels", self.box_labels, len(boxes), "boxes")
        if self.prompts is not None:
            texts = _texts(self.prompts)
        elif boxes and not self.given("prompt"):
            texts = (VISUAL,)  # no text was given: a search by exemplars alone
        else:
            texts = (_text("prompt", self.prompt),)
        return Find(texts, float(self.threshold), boxes, labels)

    def _pick(self) -> Pick:
        boxes = () if self.boxes is None else read_boxes("boxes", self.boxes)
        points = () if self.points is None else read_points("points", self.points)
        labels = read_labels("point_labels", self.point_labels, len(points), "points")
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
            targets: tuple[Target, ...] = (Target(points, labels, boxes[0] if boxes else None),)
        else:
            targets = tuple(Target(box=box) for box in boxes)
        return Pick(targets, self.multimask_output)


class _Rule(NamedTuple):
    """A refusal: it applies when `broken`, and says what goes together."""

    broken: bool
    sentence: str


def _check_together(given: Prompts) -> None:
    visual = given.task == "visual"
    rules = (
        _Rule(
            not visual and given.given("points", "point_labels"),
            "points and point_labels go with task='visual', not with task='concept'; "
            "for exemplars of a concept give boxes.",
        ),
        _Rule(
            not visual and given.multimask_output,
            "multimask_output goes with task='visual'; task='concept' returns every instance.",
        ),
        _Rule(
            visual and given.given("prompt", "prompts"),
            "prompt and prompts go with task='concept', not with task='visual'; "
            "to pick an object give points, boxes, or both.",
        ),
        _Rule(
            visual and given.box_labels is not None,
            "box_labels go with the exemplar boxes of task='concept'; "
            "with task='visual' each box is one object and has no label.",
        ),
        _Rule(
            visual and given.given("threshold"),
            "threshold goes with task='concept'; task='visual' returns every object that was "
            "asked for, with its score in the annotations. Leave threshold out.",
        ),
        _Rule(
            visual and given.points is None and given.boxes is None,
            "task='visual' needs points, boxes, or both, and none was given.",
        ),
        _Rule(
            given.prompts is not None and given.given("prompt"),
            f"prompt ({shown(given.prompt)}) and prompts were both given; give one of them.",
        ),
        _Rule(
            given.box_labels is not None and given.boxes is None,
            "box_labels were given without boxes; give both, or no labels.",
        ),
        _Rule(
            given.point_labels is not None and given.points is None,
            "point_labels were given without points; give both, or no labels.",
        ),
    )
    for rule in rules:
        if rule.broken:
            raise InputError(rule.sentence)


def _texts(prompts: list[str]) -> tuple[str, ...]:
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise InputError(
            f"prompts has {len(prompts)} entries; give 1 to {MAX_PROMPTS} in one request."
        )
    return tuple(_text(f"prompts[{index}]", text) for index, text in enumerate(prompts))


def _text(name: str, text: str) -> str:
    if not text.strip():
        raise InputError(f"{name} is blank ({shown(text)}); name what to find, e.g. 'person'.")
    if not _is_unicode(text):
        raise InputError(f"{name} is {shown(text)}, which is not valid Unicode; type it again.")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"{name} has {len(text)} characters; at most {MAX_CHARACTERS} are allowed. Shorten it."
        )
    return text


def _is_unicode(text: str) -> bool:
    """Return False for half a surrogate pair, which JSON can carry but no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
