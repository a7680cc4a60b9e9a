"""SAM 3 for Python programs: load once, ask often, without a server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.decode import Limits, open_any, read_input
from sam3_image.errors import InputError, UserError, shown
from sam3_image.instances import Instance, Instances
from sam3_image.model import WeightsSource, load_segmenter
from sam3_image.output import Output
from sam3_image.pipeline import segment
from sam3_image.report import Report
from sam3_image.request import EVERYTHING, Request
from sam3_image.serving import MemoryBudget, within_memory
from sam3_image.settings import Settings

if TYPE_CHECKING:
    from sam3_image.model import Segmenter

ImageInput = (
    str
    | os.PathLike[str]
    | bytes
    | BinaryIO
    | Pillow.Image
    | NDArray[np.uint8]  # (H, W), (H, W, 3) RGB, (H, W, 4) RGBA
    | torch.Tensor  # uint8 (3, H, W) or (H, W, 3)
)

CLOSED = "This model was closed; load it again with sam3_image.load()."


class Sam:
    """A loaded model; its methods may be called from several threads at once.

    An image is a path, an http(s) address, the bytes of an image file, a binary file object, a
    Pillow image, a NumPy array of uint8 (height, width), (height, width, 3) RGB or (height, width,
    4) RGBA, or a torch tensor of uint8 (3, height, width) or (height, width, 3). A list of images
    gives a list of results. Arrays are taken for RGB: an array from OpenCV is BGR, which cannot be
    told from RGB, so give `image[..., ::-1]`.

    Coordinates are pixels of the upright image, origin top left, x to the right. An image that is
    asked again is not encoded again.

    Every error is a UserError with one line that says what to do. `close()`, or the end of a
    `with` block, frees the model.
    """

    def __init__(self, settings: Settings) -> None:
        """For `load`."""
        self._settings = settings
        self._limits = Limits.of(settings)
        self._memory = MemoryBudget()
        # torch's inference mode and the caches of features are not made for several threads.
        self._lock = threading.Lock()
        self._model: Segmenter | None = load_segmenter(settings, Report())

    @overload
    def find(
        self, image: ImageInput, concepts: str | Sequence[str] | None = None, **options: Any
    ) -> Instances: ...

    @overload
    def find(
        self,
        image: list[Any] | tuple[Any, ...],
        concepts: str | Sequence[str] | None = None,
        **options: Any,
    ) -> list[Instances]: ...

    def find(
        self, image: Any, concepts: str | Sequence[str] | None = None, **options: Any
    ) -> Instances | list[Instances]:
        """Every instance of one or more concepts in an image, or in each image of a list.

        concepts: a text, or up to 16; None to search by exemplar boxes alone. `prompt="…"` and
            `prompts=[…]` mean the same. An entry of a list may be {"text": …, "boxes": …,
            "box_labels": …}, with exemplars of its own and perhaps without a text.
        options: inputs of `predict()` with the same names: boxes (n, 4) xyxy exemplars,
            box_labels (n,) 1 or 0, threshold, mask_threshold, nms_iou_threshold, max_instances,
            input_size_percent and others; docs/python.md lists them. Boxes and labels may be
            lists, NumPy arrays or torch tensors.

        Raises InputError for what is not accepted, ImageError for an image that cannot be used.
        """
        name = "prompt" if options.get("prompt") is not None else "prompts"
        text = options.get(name)
        if concepts is not None:
            if text is not None:
                raise InputError(
                    f"concepts ({shown(concepts)}) and {name} ({shown(text)}) were both given, "
                    "and mean the same; give one of them."
                )
            options.update(_concepts(concepts))
        elif text is None and all(
            options.get(name) is None for name in ("boxes", "reference_boxes", "reference_image")
        ):
            raise InputError("find has nothing to look for; give concepts, boxes, or both.")
        return self._answer(image, "concept", options)

    @overload
    def pick(
        self,
        image: ImageInput,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        multimask_output: bool = False,
        mask: Any = None,
        **options: Any,
    ) -> Instances: ...

    @overload
    def pick(
        self,
        image: list[Any] | tuple[Any, ...],
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        multimask_output: bool = False,
        mask: Any = None,
        **options: Any,
    ) -> list[Instances]: ...

    def pick(
        self,
        image: Any,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        multimask_output: bool = False,
        mask: Any = None,
        **options: Any,
    ) -> Instances | list[Instances]:
        """The one object that points, a box and/or a mask show, or several objects.

        points: (n, 2) x, y in pixels, all of one object; a list of such lists is several objects.
        point_labels: (n,) 1 or True on the object, 0 or False off it, nested as the points are;
            None for all on it.
        boxes: (n, 4) xyxy; without points, several boxes are several objects. Lists, NumPy arrays
            or torch tensors.
        mask: an `Instance` of an earlier answer about this image, to correct it or to click on, or
            a bool array of any shape (height, width) that spans the image.
        multimask_output: three candidates of each object, best first, instead of one.
        options: mask_threshold, input_size_percent, max_instances, mask_image and others of
            `predict()`.

        Raises InputError for what is not accepted, ImageError for an image that cannot be used.
        """
        if mask is not None:
            if options.get("mask_image") is not None:
                raise InputError("mask and mask_image were both given; give one of them.")
            options["mask_image"] = _mask(mask)
        text = next(
            (options[name] for name in ("prompt", "prompts", "concepts") if options.get(name)),
            points if _is_text(points) else None,
        )
        if text is not None:
            raise InputError(
                f"pick takes points and boxes, not the text {shown(text)}; to find every instance "
                f"of a text call find(image, {shown(text)})."
            )
        options.update(
            points=points,
            point_labels=point_labels,
            boxes=boxes,
            multimask_output=multimask_output or None,
        )
        return self._answer(image, "visual", options)

    @overload
    def everything(self, image: ImageInput, **options: Any) -> Instances: ...

    @overload
    def everything(self, image: list[Any] | tuple[Any, ...], **options: Any) -> list[Instances]: ...

    def everything(self, image: Any, **options: Any) -> Instances | list[Instances]:
        """Every object of an image, or of each image of a list, without a prompt.

        Their concept is "object", their score the IoU that the model estimates for the mask.
        options: inputs of `predict()` with the same names: points_per_side, threshold, tile_size,
            refine, min_area, max_instances and others.

        Raises InputError for what is not accepted, ImageError for an image that cannot be used.
        """
        return self._answer(image, EVERYTHING, options)

    def close(self) -> None:
        """Free the model; a call in another thread ends first, those that wait are refused."""
        with self._lock:
            self._model = None

    def __enter__(self) -> Sam:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        model = self._model
        where = ", closed" if model is None else f" on {model.placement}"
        return f"<Sam {WeightsSource.of(self._settings).name}{where}>"

    def _answer(
        self, image: Any, task: str, options: dict[str, Any]
    ) -> Instances | list[Instances]:
        if "task" in options:
            raise InputError(
                "task is said by the method: call find for 'concept', pick for 'visual', "
                "everything for 'everything'."
            )
        given = {}
        for name, value in options.items():
            if name in Output.model_fields:
                raise InputError(
                    f"{name} is about the result: give it to found.save(path, {name}=…)."
                )
            given[name] = _plain(name, value)
        if given.get("reference_image") is not None:
            given["reference_image"] = read_input(
                given["reference_image"],
                self._limits,
                "reference_image",
                given.get("value_range", "auto"),
            )
        mask = given.get("mask_image")
        is_read = isinstance(mask, dict) or (isinstance(mask, np.ndarray) and mask.ndim == 2)
        if mask is not None and not is_read:
            given["mask_image"] = read_input(mask, self._limits, "mask_image", "auto")
        request = Request.from_inputs(task=task, **given)
        if isinstance(image, list | tuple):
            return [
                self._segment(one, f"image[{index}]", request) for index, one in enumerate(image)
            ]
        return self._segment(image, "image", request)

    def _segment(self, image: Any, name: str, request: Request) -> Instances:
        model = self._model
        if model is None:
            raise UserError(CLOSED)
        model.check_texts(request.prompts.concepts)
        with self._memory.claim() as claim:
            value_range = request.decoding.value_range
            decoded = open_any(
                read_input(image, self._limits, name, value_range),
                self._limits,
                claim.take,
                value_range,
            )
            if request.crops.tile_size is not None or request.prompts.task == EVERYTHING:
                request.check_work(
                    decoded.size, self._settings.max_tiles, self._settings.max_points
                )
            reference = request.crops.reference_image
            if reference is not None:
                reference = open_any(reference, self._limits, claim.take, value_range)
            mask = None
            if request.prompts.mask_image is not None:
                mask = request.mask(
                    decoded.size, lambda given: open_any(given, self._limits, claim.take)
                )
            with self._lock:
                if self._model is None:  # while this call waited
                    raise UserError(CLOSED)
                answer = partial(segment, decoded, request, model, Report(), reference, mask)
                return within_memory(answer, model.forget, tries=2)


def load(
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    reference: str | None = None,
) -> Sam:
    """Load SAM 3 weights and return an object to ask.

    weights: a folder, a Hugging Face repository, or "demo"; None for SAM3_WEIGHTS, else what
        `sam3-image download-weights` has fetched.
    device: "cpu", "cuda", "cuda:1" or a torch.device; None for a GPU where there is one.
    dtype: "bfloat16", "float16", "float32" or a torch.dtype, on a CPU also "int8"; None for the
        device's default.
    reference: "meta" to answer as Meta's own SAM 3 does, "transformers" as transformers computes
        it; None for SAM3_REFERENCE or "meta".

    Arguments go before the environment variables of the same purpose. Raises CheckpointError,
    DeviceError, InputError and, for another reference, UserError with one line that says what to
    do.
    """
    if isinstance(device, torch.device):
        device = str(device)
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    given = {
        "weights": os.fsdecode(weights) if isinstance(weights, os.PathLike) else weights,
        "device": device,
        "dtype": dtype,
        "reference": reference,
    }
    named = {}
    for name, value in given.items():
        if isinstance(value, str):
            named[f"SAM3_{name.upper()}"] = value
        elif value is not None:
            raise InputError(f"{name} is {shown(value)}; give its name as a text.")
    try:
        return Sam(Settings.from_environment({**os.environ, **named}))
    except UserError as error:
        raise type(error)(_of_arguments(str(error), named)) from None


def _of_arguments(message: str, named: Iterable[str]) -> str:
    """A message about variables, as one about the arguments that were given in their place."""
    for variable in named:
        if f"{variable} is " in message:
            message = message.replace("Unset it", "Leave it out")
        message = message.replace(f"{variable} is ", f"{variable[5:].lower()} is ")
    return message


def _concepts(concepts: Any) -> dict[str, Any]:
    """The input of `predict()` that names the concepts; raises InputError."""
    if isinstance(concepts, str):
        return {"prompt": str(concepts)}  # NumPy has texts of its own
    entries = concepts.tolist() if isinstance(concepts, np.ndarray) else concepts
    known = isinstance(entries, list | tuple) and all(isinstance(e, str | dict) for e in entries)
    if not known:
        raise InputError(
            f"concepts is {shown(concepts)}; give a text or a list of texts (exemplars go into "
            "boxes=…; to pick an object by points or boxes call pick)."
        )
    return {"prompts": [one if isinstance(one, dict) else str(one) for one in entries]}


def _mask(mask: Any) -> NDArray[np.bool_] | NDArray[np.float32]:
    """What the model reads of a mask: the logits of an answer, or bool (height, width)."""
    if isinstance(mask, Instance):
        return mask.mask if mask.logits is None else mask.logits
    values = mask.cpu().numpy() if isinstance(mask, torch.Tensor) else mask
    if not isinstance(values, np.ndarray) or values.dtype != bool or values.ndim != 2:
        kind = f"of {values.dtype}, {values.shape}" if isinstance(values, np.ndarray) else ""
        raise InputError(
            f"mask is {kind or shown(mask)}; give an instance, such as found[0], or a bool array "
            "(height, width). For a file or an image give mask_image."
        )
    return values


def _is_text(points: Any) -> bool:
    """Whether words were given as points, which may be a JSON text."""
    if isinstance(points, list | tuple):
        return bool(points) and all(isinstance(one, str) for one in points)
    return isinstance(points, str) and not points.lstrip().startswith("[")


def _plain(name: str, value: Any, depth: int = 4) -> Any:
    """The same value in lists and numbers of Python, where it holds arrays, tensors or scalars.

    Booleans among labels become 1 and 0. Images are left as they are.
    """
    if name in ("reference_image", "mask_image"):
        return value
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple) and depth:
        return [_plain(name, one, depth - 1) for one in value]
    if isinstance(value, dict):
        return {key: _plain(str(key), one) for key, one in value.items()}
    if isinstance(value, bool) and name in ("point_labels", "box_labels"):
        return int(value)
    return value
