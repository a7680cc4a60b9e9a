"""What Roboflow's SDK sends and gets; coordinates are pixels of the upright image."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sam3_image.errors import InputError, shown
from sam3_image.web.routes import Body

MAX_PROMPTS = 16
MODEL = "sam3/sam3_final"

Format = Literal["polygon", "rle"]


class SentImage(Body):
    """An image: its bytes in base64, or its address."""

    type: str = "base64"
    value: str


class CornerBox(Body):
    """A box as x, y (top left), width, height, or as x0, y0, x1, y1."""

    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    x0: float | None = None
    y0: float | None = None
    x1: float | None = None
    y1: float | None = None

    def xyxy(self) -> list[float]:
        """[x0, y0, x1, y1]; raises InputError where neither spelling is complete."""
        corners = [self.x0, self.y0, self.x1, self.y1]
        if None in corners and None not in (self.x, self.y, self.width, self.height):
            corners = [self.x, self.y, self.x + self.width, self.y + self.height]  # type: ignore[operator]
        if None in corners:
            raise InputError(
                f"a box is {shown(self.model_dump(exclude_none=True))}; give x, y (top left "
                "corner), width and height, or x0, y0, x1 and y1."
            )
        return corners  # type: ignore[return-value]


class ConceptPrompt(Body):
    """One concept: a text, exemplar boxes, or both."""

    type: str | None = None
    text: str | None = None
    output_prob_thresh: float | None = Field(default=None, ge=0, le=1)
    boxes: list[CornerBox] | None = None
    box_labels: list[int] | None = None


class ImagesBody(Body):
    """What every request carries."""

    api_key: str | None = None
    image: SentImage | list[SentImage] | None = None
    image_id: str | None = Field(default=None, max_length=200)


class ConceptBody(ImagesBody):
    """Every instance of up to 16 concepts.

    text, boxes, box_labels: the one prompt of older clients, which know no `prompts`.
    """

    model_id: str | None = None
    prompts: list[ConceptPrompt] = Field(default_factory=list, min_length=1, max_length=MAX_PROMPTS)
    output_prob_thresh: float = Field(default=0.5, ge=0, le=1)
    nms_iou_threshold: float | None = Field(default=None, ge=0, le=1)
    format: Format = "polygon"

    @model_validator(mode="before")
    @classmethod
    def _one_prompt(cls, body: Any) -> Any:
        alone = ("text", "boxes", "box_labels")
        if isinstance(body, dict) and body.get("prompts") is None:
            prompt = {name: body[name] for name in alone if body.get(name) is not None}
            return {**body, "prompts": [prompt] if prompt else []}
        return body


class VisualPoint(Body):
    """A point on (positive) or off the object."""

    x: float
    y: float
    positive: bool = True


class CenterBox(Body):
    """A box around the object; x, y is its center."""

    x: float
    y: float
    width: float
    height: float


class VisualPrompt(Body):
    """One object: points, a box, or both."""

    points: list[VisualPoint] | None = None
    box: CenterBox | None = None


class VisualPrompts(Body):
    """The form in which the SDK sends prompts."""

    prompts: list[VisualPrompt] = Field(min_length=1, max_length=MAX_PROMPTS)


class VisualBody(ImagesBody):
    """The one object under each prompt; without a prompt, every object.

    points, box: the one prompt of older clients, which know no `prompts`.
    save_logits_to_cache, load_logits_from_cache: whether the answers are kept for later clicks on
    the same objects, and whether this request starts from such answers.
    """

    prompts: VisualPrompts | list[VisualPrompt] | VisualPrompt | None = None
    points: list[VisualPoint] | None = None
    box: CenterBox | None = None
    multimask_output: bool = True
    save_logits_to_cache: bool = False
    load_logits_from_cache: bool = False
    format: Literal["json", "rle"] = "json"


class RoboflowPrediction(Body):
    """One instance. masks: outer contours [[x, y], …], or COCO's compressed run lengths."""

    masks: Any
    confidence: float
    format: Format


class PromptEcho(Body):
    """What a prompt was."""

    prompt_index: int
    type: str
    text: str | None
    num_boxes: int


class PromptResult(Body):
    """The instances of one prompt, best first."""

    prompt_index: int
    echo: PromptEcho
    predictions: list[RoboflowPrediction]


class ConceptAnswer(Body):
    """One result for each prompt. time: seconds."""

    prompt_results: list[PromptResult]
    time: float


class VisualAnswer(Body):
    """The best mask of each prompt, in their order, or all without one. time: seconds."""

    predictions: list[RoboflowPrediction]
    time: float


class EmbedAnswer(Body):
    """By what name the image is known from now on. time: seconds."""

    image_id: str
    time: float
