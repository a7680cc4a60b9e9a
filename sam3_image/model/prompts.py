"""What the model can be asked: the prompt inputs of `predict()`, checked, as one task.

Two tasks that are often mixed up have two types. `Find` is promptable concept segmentation (PCS):
every instance of a text and/or of exemplar boxes. `Pick` is promptable visual segmentation (PVS):
the one object that points, a box and/or a mask show. `Everything` needs no prompt. A task reads its
own inputs, fits itself to an image, and names the module that answers it. Inputs that do not go
together are refused: nothing that was given is silently ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import Field, PrivateAttr

from sam3_image.errors import InputError, Options, shown
from sam3_image.model.geometry import (
    Box,
    Point,
    fit_boxes,
    fit_points,
    read_boxes,
    read_labels,
    read_objects,
    read_thresholds,
)

VISUAL = "visual"  # the word that SAM 3 was trained to read beside exemplars without text
EXAMPLE = "example"  # what instances that such exemplars found are called
DEFAULT_PROMPT = "person"  # of the drop-in interface
MAX_PROMPTS = 16
MAX_CHARACTERS = 500
MAX_POINTS_PER_SIDE = 256
# Of task='everything'; the figures that it was chosen by are in docs/prompts.md.
EVERYTHING_THRESHOLD = 0.65

# A mask as prompt: bool (height, width) of any size, or float32 logits (h, w) of an answer. Both
# span the image.
MaskPrompt = NDArray[np.bool_] | NDArray[np.float32]


@dataclass(frozen=True)
class Concept:
    """One entry of `prompts` with exemplars of its own: its text, boxes and labels."""

    text: str
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Find:
    """All instances of each concept with a score above `threshold`, in pixels of one image.

    threshold: for all concepts, or one for each.
    concepts: the texts that the model reads; "visual" where only exemplars say what to find.
    boxes: exemplars that narrow every concept, xyxy in pixels of the upright image; may be empty.
    labels: one per box: 1 finds more like it, 0 excludes what looks like it.
    each: instead of boxes and labels, those of each concept; empty where they are the same for all.
    """

    concepts: tuple[str, ...]
    threshold: float | tuple[float, ...]
    boxes: tuple[Box, ...] = ()
    labels: tuple[int, ...] = ()
    each: tuple[Concept, ...] = ()
    name: ClassVar[str] = "find"
    module: ClassVar[str] = "finder"

    @classmethod
    def from_prompts(cls, given: Prompts) -> Find:
        """The task that these inputs ask for; raises InputError."""
        boxes = () if given.boxes is None else read_boxes("boxes", given.boxes)
        labels = read_labels("box_labels", given.box_labels, len(boxes), "boxes") if boxes else ()
        each: tuple[Concept, ...] = ()
        if given.prompts is not None:
            texts = _texts(given.prompts)
            if any(isinstance(entry, dict) for entry in given.prompts):
                each = _concepts(given.prompts, texts)
                if boxes:
                    raise InputError(
                        "boxes were given for all prompts and in entries of prompts; give them in "
                        "one place."
                    )
        elif boxes and not given.given("prompt"):
            texts = (VISUAL,)  # no text was given: a search by exemplars alone
        else:
            texts = (_text("prompt", given.prompt),)
        threshold: float | tuple[float, ...] = float(given.threshold)
        if given.thresholds is not None:
            threshold = read_thresholds("thresholds", given.thresholds, len(texts), "prompts")
        return cls(texts, threshold, boxes, labels, each)

    def fit(self, size: tuple[int, int]) -> Find:
        """The same task about an image of `size`; raises InputError for boxes outside."""
        if self.each:
            each = []
            for index, one in enumerate(self.each):
                boxes = fit_boxes(f"prompts[{index}].boxes", one.boxes, size)
                each.append(replace(one, boxes=boxes))
            return replace(self, each=tuple(each))
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
        if self.each:
            return tuple(EXAMPLE if one.text == VISUAL else one.text for one in self.each)
        alone = self.concepts == (VISUAL,) and bool(self.boxes)
        return (EXAMPLE,) if alone else self.concepts

    def __str__(self) -> str:
        """One line for the log."""
        texts = ", ".join(shown(text) for text in self.names)
        labels = self.labels or tuple(label for one in self.each for label in one.labels)
        positive, negative = sum(labels), labels.count(0)
        exemplars = f" with {positive} positive and {negative} negative exemplars"
        alike = len(set(self.thresholds)) == 1
        thresholds = ", ".join(map(str, self.thresholds[:1] if alike else self.thresholds))
        kind = "threshold" if alike else "thresholds"
        return f"find {texts}{exemplars if labels else ''}, {kind} {thresholds}"


@dataclass(frozen=True)
class Target:
    """One object to pick: by points on and off it, a box around it, a mask of it, or several.

    points: (x, y) in pixels of the upright image; labels: 1 on the object, 0 off it.
    """

    points: tuple[Point, ...] = ()
    labels: tuple[int, ...] = ()
    box: Box | None = None
    mask: MaskPrompt | None = field(default=None, compare=False)


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
        """The task that these inputs ask for, without its mask; raises InputError."""
        boxes = () if given.boxes is None else read_boxes("boxes", given.boxes)
        objects: tuple[tuple[tuple[Point, ...], tuple[int, ...]], ...] = ()
        if given.points is not None:
            objects = read_objects("points", given.points, "point_labels", given.point_labels)
        several = max(len(objects), len(boxes))
        if given.mask_image is not None and several > 1:
            raise InputError(
                f"mask_image shows one object, and {several} objects were asked for; "
                "give its points in one list, and at most one box."
            )
        if objects and several > 1 and boxes:
            raise InputError(
                f"{len(objects)} objects by points and {len(boxes)} boxes were given; points go "
                "with one box at most, about one object. Several boxes, or several lists of "
                "points, are several objects: give only one of the two."
            )
        for index, (_, labels) in enumerate(objects):
            if not (boxes or any(labels) or given.mask_image is not None):
                where = f"point_labels[{index}]" if several > 1 else "point_labels"
                raise InputError(
                    f"{where} are all 0 ({len(labels)} points off the object); "
                    "give at least one point on it (label 1), or a box around it."
                )
        if objects:
            box = boxes[0] if boxes else None
            targets = tuple(Target(points, labels, box) for points, labels in objects)
        else:
            targets = tuple(Target(box=box) for box in boxes) or (Target(),)
        return cls(targets, given.multimask_output)

    def fit(self, size: tuple[int, int]) -> Pick:
        """The same task about an image of `size`; raises InputError for what lies outside."""
        boxes = iter(fit_boxes("boxes", [t.box for t in self.targets if t.box], size))
        targets = []
        for index, target in enumerate(self.targets):
            name = f"points[{index}]" if len(self.targets) > 1 else "points"
            box = next(boxes) if target.box else None
            targets.append(replace(target, points=fit_points(name, target.points, size), box=box))
        return replace(self, targets=tuple(targets))

    def with_mask(self, mask: MaskPrompt) -> Pick:
        """The same task with a mask of its one target; raises InputError for an empty one."""
        if mask.dtype == bool and not mask.any():
            raise InputError(
                "mask_image shows no object: no pixel of it is white (128 or more of 255). "
                "Give a mask that is white on the object, or leave it out."
            )
        return replace(self, targets=(replace(self.targets[0], mask=mask),))

    def __str__(self) -> str:
        """One line for the log."""
        first, number = self.targets[0], len(self.targets)
        if number > 1:
            return f"pick {number} objects by {'points' if first.points else 'boxes'}"
        shows = [f"{len(first.points)} points"] if first.points else []
        shows += ["a box"] if first.box else []
        shows += ["a mask"] if first.mask is not None else []
        return f"pick one object by {' and '.join(shows)}"


@dataclass(frozen=True)
class Everything:
    """Every object in one image, found by a grid of points.

    points_per_side: of the grid, along each side of the image.
    threshold: the IoU that the model estimates for a mask must be above it.
    fill_holes: as in `Pick`.
    """

    points_per_side: int
    threshold: float = EVERYTHING_THRESHOLD
    fill_holes: bool = True
    name: ClassVar[str] = "everything"
    module: ClassVar[str] = "everything"

    @classmethod
    def from_prompts(cls, given: Prompts) -> Everything:
        """The task that these inputs ask for."""
        threshold = given.threshold if given.given("threshold") else EVERYTHING_THRESHOLD
        return cls(given.points_per_side, threshold)

    def fit(self, size: tuple[int, int]) -> Everything:
        """The same task: the grid fits every image."""
        return self

    def __str__(self) -> str:
        """One line for the log."""
        side = self.points_per_side
        return f"find everything by {side}×{side} points, threshold {self.threshold}"


Task = Find | Pick | Everything
# By the value of the input `task`.
TASKS: dict[str, type[Task]] = {"concept": Find, "visual": Pick, "everything": Everything}


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
        default=0.5,
        ge=0,
        le=1,
        description=(
            "Keep instances with a score above this; for task everything the default is 0.65"
        ),
    )
    task: str = Field(
        default="concept",
        json_schema_extra={"enum": list(TASKS)},
        description=(
            "concept finds every instance of a text or of exemplar boxes; visual picks the "
            "object that points, a box or a mask show; everything finds all objects, unprompted"
        ),
    )
    prompts: list[str] | list[str | dict[str, Any]] | None = Field(
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
            "JSON, [[x,y],...] in pixels of the upright image, all on one object; or "
            "[[[x,y],...],...], one object per list. visual only"
        ),
    )
    point_labels: Any = Field(
        default=None,
        description=(
            "JSON, one label per point, nested as they are: 1 on the object, 0 off it. Default: "
            "all 1"
        ),
    )
    mask_image: Any = Field(
        default=None,
        description=(
            "visual: an image of any size, stretched over image, that is white on the object, as a "
            "rough mask of it; alone or with points and a box"
        ),
    )
    points_per_side: int = Field(
        default=32,
        ge=1,
        le=MAX_POINTS_PER_SIDE,
        description="everything: points of the grid along each side; more find smaller objects",
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
    _task: Task = PrivateAttr()

    def model_post_init(self, _context: object) -> None:
        """Hold every rule that does not depend on the image."""
        if self.task not in TASKS:
            raise InputError(
                f"task is {shown(self.task)}; choose 'concept' (find every instance), 'visual' "
                "(pick the object that points, a box or a mask show) or 'everything' (all objects)."
            )
        _check_together(self)
        self._task = TASKS[self.task].from_prompts(self)

    def on(self, size: tuple[int, int]) -> Task:
        """The task about an upright image of `size` (height, width) in pixels.

        Raises InputError for coordinates outside the image.
        """
        return self._task.fit(size)

    @property
    def asked(self) -> Task:
        """The task before it is fitted to an image."""
        return self._task

    @property
    def concepts(self) -> tuple[str, ...]:
        """The texts that are looked for; none for *pick* and *everything*."""
        return self._task.concepts if isinstance(self._task, Find) else ()


_PICKED = "task='visual', not with task='concept'; for exemplars of a concept give boxes."
_GRID = "task='visual'; task='everything' lays a grid of its own: give points_per_side."
_NAMED = "prompt and prompts go with task='concept', not with task="
_NO_PROMPT = "'everything', which needs no prompt."
# By task and input: why the two do not go together.
_MISFITS: dict[str, dict[str, str]] = {
    "concept": {
        "points": f"points and point_labels go with {_PICKED}",
        "point_labels": f"points and point_labels go with {_PICKED}",
        "mask_image": f"mask_image goes with {_PICKED}",
        "multimask_output": (
            "multimask_output goes with task='visual'; task='concept' returns every instance."
        ),
        "points_per_side": (
            "points_per_side goes with task='everything'; task='concept' needs no grid of points."
        ),
    },
    "visual": {
        "prompt": f"{_NAMED}'visual'; to pick an object give points, boxes, or both.",
        "prompts": f"{_NAMED}'visual'; to pick an object give points, boxes, or both.",
        "box_labels": (
            "box_labels go with the exemplar boxes of task='concept'; "
            "with task='visual' each box is one object and has no label."
        ),
        "threshold": (
            "threshold goes with task='concept' and task='everything'; task='visual' returns every "
            "object that was asked for, with its score in the annotations. Leave threshold out."
        ),
        "points_per_side": (
            "points_per_side goes with task='everything'; with task='visual' give points."
        ),
    },
    "everything": {
        "prompt": f"{_NAMED}{_NO_PROMPT}",
        "prompts": f"{_NAMED}{_NO_PROMPT}",
        "boxes": f"boxes go with task='concept' and task='visual', not with task={_NO_PROMPT}",
        "box_labels": f"box_labels go with task='concept', not with task={_NO_PROMPT}",
        "points": f"points and point_labels go with {_GRID}",
        "point_labels": f"points and point_labels go with {_GRID}",
        "mask_image": f"mask_image goes with task='visual', not with task={_NO_PROMPT}",
        "multimask_output": (
            "multimask_output goes with task='visual'; task='everything' returns every candidate "
            "that is no double of a better one."
        ),
    },
}


class _Rule(NamedTuple):
    """A refusal: it applies when `broken`, and says what goes together."""

    broken: bool
    sentence: str


def _check_together(given: Prompts) -> None:
    for name, sentence in _MISFITS[given.task].items():
        value = getattr(given, name)
        if given.given(name) and value is not None and value is not False:
            raise InputError(sentence)
    rules = (
        _Rule(
            given.thresholds is not None and given.prompts is None,
            "thresholds go with prompts, one for each; for one concept give threshold.",
        ),
        _Rule(
            given.thresholds is not None and given.given("threshold"),
            "threshold and thresholds were both given; give one of them.",
        ),
        _Rule(
            given.point_labels is not None and given.points is None,
            "point_labels were given without points; give both, or no labels.",
        ),
        _Rule(
            given.task == "visual"
            and given.points is None
            and given.boxes is None
            and given.mask_image is None,
            "task='visual' needs points, boxes, or both, or a mask_image; none was given.",
        ),
        _Rule(
            given.box_labels is not None and given.boxes is None,
            "box_labels were given without boxes; give both, or no labels.",
        ),
    )
    if given.prompts is not None and given.given("prompt"):
        raise InputError(
            f"prompt ({shown(given.prompt)}) and prompts were both given; give one of them."
        )
    for rule in rules:
        if rule.broken:
            raise InputError(rule.sentence)
    given_as = given.mask_image
    if not isinstance(given_as, type(None) | Path | bytes | np.ndarray | Pillow.Image | dict):
        raise InputError(f"mask_image is {shown(given.mask_image)}; give an image, as for image.")


def _texts(prompts: list[Any]) -> tuple[str, ...]:
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise InputError(
            f"prompts has {len(prompts)} entries; give 1 to {MAX_PROMPTS} in one request."
        )
    texts = []
    for index, entry in enumerate(prompts):
        name = f"prompts[{index}]"
        if isinstance(entry, dict):
            unknown = set(entry) - {"text", "boxes", "box_labels"}
            if unknown:
                raise InputError(
                    f"{name} has {shown(min(map(str, unknown)))}; an entry has text, boxes and "
                    "box_labels."
                )
            alone = entry.get("text") is None and entry.get("boxes") is not None
            entry, name = VISUAL if alone else entry.get("text", ""), f"{name}.text"
        if not isinstance(entry, str):
            raise InputError(f"{name} is {shown(entry)}; give a text.")
        texts.append(_text(name, entry))
    return tuple(texts)


def _concepts(prompts: list[Any], texts: Sequence[str]) -> tuple[Concept, ...]:
    """Entries of `prompts`, texts or {"text", "boxes", "box_labels"}, with their exemplars."""
    found = []
    for index, (entry, text) in enumerate(zip(prompts, texts, strict=True)):
        name, own = f"prompts[{index}]", entry if isinstance(entry, dict) else {}
        boxes = () if own.get("boxes") is None else read_boxes(f"{name}.boxes", own["boxes"])
        if not boxes and own.get("box_labels") is not None:
            raise InputError(f"{name} has box_labels without boxes; give both, or no labels.")
        where = f"{name}.boxes"
        labels = read_labels(f"{name}.box_labels", own.get("box_labels"), len(boxes), where)
        found.append(Concept(text, boxes, labels))
    return tuple(found)


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
