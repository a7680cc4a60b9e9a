"""The labeling configuration of a Label Studio project: which labels, and how to answer."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from sam3_image.errors import InputError, shown

# Which control an answer goes to where a project has several: a brush holds every mask exactly, a
# keypoint the least of it. Smart keypoints are questions and take no answer.
OUTPUTS = ("BrushLabels", "PolygonLabels", "RectangleLabels", "KeyPointLabels")


@dataclass(frozen=True)
class Control:
    """A control tag, such as <BrushLabels name="tag" toName="image">."""

    tag: str
    name: str
    to_name: str
    labels: tuple[str, ...]

    @property
    def type(self) -> str:
        """What its regions are called: "brushlabels", "polygonlabels"."""
        return self.tag.lower()


@dataclass(frozen=True)
class LabelConfig:
    """What a backend needs to know of a project.

    output: the control that gets the answer. image_key: the name of the image in a task's data.
    """

    output: Control
    image_key: str

    @classmethod
    def parse(cls, text: str) -> LabelConfig:
        """Read the XML; raises InputError."""
        if "<!" in text.replace("<!--", ""):
            raise InputError(
                "label_config declares entities, which a configuration has no need of."
            )
        try:
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise InputError(f"label_config is {shown(text)}, which is not XML: {error}.") from None
        images = {
            tag.get("name"): tag.get("value", "").removeprefix("$") for tag in root.iter("Image")
        }
        for kind in OUTPUTS:
            for tag in root.iter(kind):
                control = _control(tag)
                asks = kind == "KeyPointLabels" and tag.get("smart") == "true"
                if control.to_name in images and control.labels and not asks:
                    return cls(control, images[control.to_name])
        raise InputError(
            f"label_config has none of {', '.join(OUTPUTS)} with labels for an Image; add one."
        )


def _control(tag: ElementTree.Element) -> Control:
    labels = [label.get("value", "") for label in tag.iter("Label")]
    return Control(
        tag=tag.tag,
        name=tag.get("name", ""),
        to_name=tag.get("toName", ""),
        labels=tuple(label for label in labels if label),
    )
