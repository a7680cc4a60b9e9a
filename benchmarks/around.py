"""Everything but the model: decode, preprocess, post-process and write, from ready-made outputs.

A round runs each stage once and each kind of result once; a result's time is the sum of its
stages. So the table also says where the time goes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import Sam3ImageProcessor
from transformers.models.sam3.modeling_sam3 import Sam3ImageSegmentationOutput

from benchmarks import pictures, plain
from benchmarks.measure import Seconds, Stages
from sam3_image.decode import Limits, open_image
from sam3_image.model import Find, Finder, merged, transfer
from sam3_image.model.compatibility import TRANSFORMERS
from sam3_image.output import Output, save

SIDE = 1008  # of the encoder's input at full resolution
STAGES = ("decode", "preprocess", "post-process")


@dataclass(frozen=True)
class Case:
    """A picture of `size` = (height, width) in which `count` instances are found."""

    size: tuple[int, int]
    count: int

    @property
    def name(self) -> str:
        """For tables, width first."""
        return f"{self.size[1]}×{self.size[0]}, {self.count}"


SMALL, LARGE, HUGE = Case((768, 1024), 5), Case((3000, 4000), 20), Case((4096, 4096), 200)

PlainWriter = Callable[[Path, Any, Any], Path]


@dataclass(frozen=True)
class Kind:
    """One kind of result: what we are asked for, and how the plain pipeline writes the same."""

    output: Output
    plain: PlainWriter
    file: str


KINDS = {
    "ZIP": Kind(Output(), plain.write_zip, "masks.zip"),
    "ZIP + overlay": Kind(
        Output(save_overlay=True),
        lambda path, image, result: plain.write_zip(path, image, result, save_overlay=True),
        "masks.zip",
    ),
    "overlay PNG": Kind(Output(return_zip=False), plain.write_overlay, "overlay.png"),
    "overlay JPEG": Kind(
        Output(return_zip=False, output_format="jpg"),
        lambda path, image, result: plain.write_overlay(path, image, result, "JPEG"),
        "overlay.jpg",
    ),
    "annotations": Kind(
        Output(return_zip=False, annotation_format="coco"), plain.write_coco, "annotations.json"
    ),
}


@dataclass(frozen=True)
class ReadyMade(Finder):
    """The product's own finder with the model's outputs given instead of computed."""

    outputs: Any = None

    def _forward(self, features: Any, concepts: Any, request: Any) -> Any:
        return self.outputs


@dataclass(frozen=True)
class Inputs:
    """What a case starts from, on disk, so that another process can start from it too."""

    photo: Path
    outputs: Path

    @classmethod
    def of(cls, case: Case, folder: Path) -> Inputs:
        """Where they lie in `folder`; made if they are not there."""
        stem = f"{case.size[1]}x{case.size[0]}-{case.count}"
        inputs = cls(folder / f"{stem}.jpg", folder / f"{stem}.safetensors")
        if not inputs.photo.exists():
            pictures.save_photo(inputs.photo, case.size)
        if not inputs.outputs.exists():
            save_file(dict(pictures.outputs(case.count)), inputs.outputs)
        return inputs

    def load(self) -> Any:
        """Return the model's outputs."""
        return Sam3ImageSegmentationOutput(**load_file(self.outputs))


class Ours:
    """This project's pipeline, the model replaced by its outputs."""

    def __init__(self, inputs: Inputs) -> None:
        """Load what the model would have given."""
        self._photo = inputs.photo
        nothing: Any = None  # the parts that only the model's own pass would use
        self._finder = ReadyMade(
            nothing, nothing, nothing, nothing, TRANSFORMERS, outputs=inputs.load()
        )

    def __call__(self, kinds: list[str], folder: Path) -> Seconds:
        """Seconds by stage and by kind of result, written into `folder`."""
        watch = Stages()
        with watch.stage("decode"):
            image = open_image(self._photo, Limits())
        with watch.stage("preprocess"):
            square = transfer.resize(image.pixels, SIDE)
            transfer.digest(square)
            transfer.normalise(square)
        with watch.stage("post-process"), torch.inference_mode():
            features: Any = image  # of the features only the picture's size is asked for
            request = Find(("thing",), threshold=0.5)
            steps = self._finder.steps(features, request, mask_threshold=0.5)
            instances = merged([step() for step in steps], request)
        for kind in kinds:
            with watch.stage(kind):
                save(image, instances, KINDS[kind].output, folder)
        return watch.seconds


class Theirs:
    """The plain pipeline, the model replaced by its outputs."""

    def __init__(self, inputs: Inputs) -> None:
        """Load what the model would have given."""
        self._photo = inputs.photo
        self._outputs = inputs.load()
        self._processor = Sam3ImageProcessor()

    def __call__(self, kinds: list[str], folder: Path) -> Seconds:
        """Seconds by stage and by kind of result, written into `folder`."""
        watch = Stages()
        with watch.stage("decode"):
            image = plain.decode(self._photo)
        with watch.stage("preprocess"):
            plain.preprocess(self._processor, image)
        with watch.stage("post-process"):
            size = (image.height, image.width)
            result = plain.post_process(self._processor, self._outputs, size)
        for kind in kinds:
            with watch.stage(kind):
                KINDS[kind].plain(folder / KINDS[kind].file, image, result)
        return watch.seconds


SIDES: dict[str, type[Ours] | type[Theirs]] = {"plain": Theirs, "ours": Ours}


def total(seconds: Seconds, kind: str) -> float:
    """Seconds from the file to the result of that kind."""
    return sum(seconds[stage] for stage in STAGES) + seconds[kind]
