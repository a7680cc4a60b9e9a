"""What the model can be asked: the prompt inputs of `predict()`, checked, as one task.

Two tasks that are often mixed up have two types. `Find` is promptable concept segmentation (PCS):
every instance of a text and/or of exemplar boxes. `Pick` is promptable visual segmentation (PVS):
the one object under points and/or a box. A task reads its own inputs, fits itself to an image, and
names the module that answers it. Inputs that do not go together are refused: nothing that was given
is silently ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, PrivateAttr

from sam3_image.errors import InputError, Options, shown
from sam3_image.model.geometry import (
    Box,
    Point,
    fit_boxes,
    fit_points,
    read_boxes,
    read_labels,
    read_points,
    read_thresholds,
)

VISUAL = "visual"  # the word that SAM 3 was trained to read beside exemplars without text
EXAMPLE = "example"  # what instances that such exemplars found are called
DEFAULT_PROMPT = "person"  # of the drop-in interface
MAX_PROMPTS = 16
MAX_CHARACTERS = 500


@dataclass(frozen=True)
class Find:
    """All instances of each concept with a score above `threshold`, in pixels of one image.

    threshold: for all concepts, or one for each.
    concepts: the texts that the model reads; "visual" where only exemplars say what to find.
    boxes: exemplars that narrow every concept, xyxy in pixels of the upright image; may be empty.
    labels: one per box: 1 finds more like it, 0 excludes what looks like it.
    """

    concepts: tuple[str, ...]
    threshold: float | tuple[float, ...]
    boxes: tuple[Box, ...] = ()
    labels: tuple[int, ...] = ()
    name: ClassVar[str] = "find"
    module: ClassVar[str] = "finder"

    @classmethod
    def from_prompts(cls, given: Prompts) -> Find:
        """The task that these inputs ask for; raises InputError."""
        boxes = () if given.boxes is None else read_boxes("boxes", given.boxes)
        labels = read_labels("box_labels", given.box_labels, len(boxes), "boxes") if boxes else ()
        if given.prompts is not None:
            texts = _texts(given.prompts)
        elif boxes and not given.given("prompt"):
            texts = (VISUAL,)  # no text was given: a search by exemplars alone
        else:
            texts = (_text("prompt", given.prompt),)
        threshold: float | tuple[float, ...] = float(given.threshold)
        if given.thresholds is not None:
            threshold = read_thresholds("thresholds", given.thresholds, len(texts), "prompts")
        return cls(texts, threshold, boxes, labels)

    def fit(self, size: tuple[int, int]) -> Find:
        """The same task about an image of `size`; raises InputError for boxes outside."""
        if not self.boxes:
            return self
        return replace(self, boxes=fit_boxes("boxes", self.boxes, size))

    @property
    def thresholds(self) -> tuple[float, ...]:
        """One for each concept."""
        if isinstance(self.threshold, tuple):
            return self.threshold
        return (self.threshold,) * len(self.concepts)

    @property
    def names(self) -> tuple[str, ...]:
        """What to call the instances of each concept: its text, "example" for exemplars alone."""
        alone = self.concepts == (VISUAL,) and bool(self.boxes)
        return (EXAMPLE,) if alone else self.concepts

    def __str__(self) -> str:
        """One line for the log."""
        texts = ", ".join(shown(text) for text in self.names)
        positive, negative = sum(self.labels), self.labels.count(0)
        exemplars = f" with {positive} positive and {negative} negative exemplars"
        alike = len(set(self.thresholds)) == 1
        thresholds = ", ".join(map(str, self.thresholds[:1] if alike else self.thresholds))
        kind = "threshold" if alike else "thresholds"
        return f"find {texts}{exemplars if self.labels else ''}, {kind} {thresholds}"


@dataclass(frozen=True)
class Target:
    """One object to pick: by points on and off it, a box around it, or both.

    points: (x, y) in pixels of the upright image; labels: 1 on the object, 0 off it.
    """

    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None


@dataclass(frozen=True)
class Pick:
    """One mask per target, or its three candidates where `multimask`, in pixels of one image.

    fill_holes: whether small holes are filled as Meta's SAM 3 fills them, where it is the reference
        (`SAM3_REFERENCE`); False leaves the model's mask as it is.
    """

    targets: tuple[Target, ...]
    multimask: bool
    fill_holes: bool = True
    name: ClassVar[str] = "pick"
    module: ClassVar[str] = "picker"

    @classmethod
    def from_prompts(cls, given: Prompts) -> Pick:
        """The task that these inputs ask for; raises InputError."""
        boxes = () if given.boxes is None else read_boxes("boxes", given.boxes)
        points = () if given.points is None else read_points("points", given.points)
        labels = read_labels("point_labels", given.point_labels, len(points), "points")
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
        return cls(targets, given.multimask_output)

    def fit(self, size: tuple[int, int]) -> Pick:
        """The same task about an image of `size`; raises InputError for what lies outside."""
        boxes = iter(fit_boxes("boxes", [t.box for t in self.targets if t.box], size))
        targets = tuple(
            replace(
                target,
                points=fit_points("points", target.points, size),
                box=next(boxes) if target.box else None,
            )
            for target in self.targets
        )
        return replace(self, targets=targets)

    def __str__(self) -> str:
        """One line for the log."""
        points, boxed = len(self.targets[0].points), self.targets[0].box is not None
        if not points:
            return f"pick the objects in {len(self.targets)} boxes"
        return f"pick the object under {points} points{' in a box' if boxed else ''}"


# By the value of the input `task`.
TASKS: dict[str, type[Find | Pick]] = {"concept": Find, "visual": Pick}


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
    thresholds: Any = Field(
        default=None,
        description="JSON, one threshold per entry of prompts, instead of threshold: [0.5,0.3,...]",
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
    _task: Find | Pick = PrivateAttr()

    def model_post_init(self, _context: object) -> None:
        """Hold every rule that does not depend on the image."""
        if self.task not in TASKS:
            raise InputError(
                f"task is {shown(self.task)}; choose 'concept' (find every instance) or 'visual' "
                "(pick the object under points or a box)."
            )
        _check_together(self)
        self._task = TASKS[self.task].from_prompts(self)

    def on(self, size: tuple[int, int]) -> Find | Pick:
        """The task about an upright image of `size` (height, width) in pixels.

        Raises InputError for coordinates outside the image.
        """
        return self._task.fit(size)

    @property
    def concepts(self) -> tuple[str, ...]:
        """The texts that are looked for; none for *pick*."""
        return self._task.concepts if isinstance(self._task, Find) else ()


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
            given.thresholds is not None and given.prompts is None,
            "thresholds go with prompts, one for each; for one concept give threshold.",
        ),
        _Rule(
            given.thresholds is not None and given.given("threshold"),
            "threshold and thresholds were both given; give one of them.",
        ),
        _Rule(
            visual and given.points is None and given.boxes is None,
            "task='visual' needs points, boxes, or both, and none was given.",
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
    if given.prompts is not None and given.given("prompt"):
        raise InputError(
            f"prompt ({shown(given.prompt)}) and prompts were both given; give one of them."
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
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: JSON can carry it, but no file can hold it
        raise InputError(
            f"{name} is {shown(text)}, which is not valid Unicode; type it again."
        ) from None
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"{name} has {len(text)} characters; at most {MAX_CHARACTERS} are allowed. Shorten it."
        )
    return text
