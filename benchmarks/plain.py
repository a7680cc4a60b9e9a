"""The plain pipeline: what transformers' documentation, Pillow and zipfile make of the same job.

It is written as a user would write it, without tricks for or against it, and serves twice: as the
other column of the benchmark and as the reference of the parity tests. For these it can also be
called so that it answers as Meta's own SAM 3.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_masks
from transformers import Sam3Model, Sam3Processor

from tools.demo_checkpoint.as_meta import masked_box, set_epsilon, text_inputs
from tools.demo_checkpoint.as_meta import post_process as post_process_as_meta

GREEN = (0, 255, 0)


@dataclass(frozen=True)
class Plain:
    """Model and processor as `from_pretrained` gives them; `as_meta`: see `load`."""

    processor: Any
    model: Any
    as_meta: bool = False


def load(
    folder: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    as_meta: bool = False,
) -> Plain:
    """Return the model in `folder` on a device, ready to predict.

    as_meta: call it as `tools.demo_checkpoint.as_meta` says, not as transformers' pages do.
    """
    model = Sam3Model.from_pretrained(folder, dtype=dtype).to(device).eval()
    if as_meta:
        set_epsilon(model)
    return Plain(Sam3Processor.from_pretrained(folder), model, as_meta)


def decode(path: Path) -> Image.Image:
    """Return the picture in a file, RGB."""
    return Image.open(path).convert("RGB")


def preprocess(processor: Any, image: Image.Image, **prompts: Any) -> Any:
    """Return the model's inputs for one picture; prompts: `text=…`, `input_boxes=…`, …"""
    return processor(images=image, return_tensors="pt", **prompts)


@torch.inference_mode()
def infer(plain: Plain, inputs: Any) -> Any:
    """Return the model's outputs, a `Sam3ImageSegmentationOutput`."""
    inputs = dict(inputs)
    if plain.as_meta and "input_boxes" not in inputs:
        inputs |= masked_box(len(inputs["input_ids"]))
    inputs = {name: value.to(plain.model.device) for name, value in inputs.items()}
    inputs["pixel_values"] = inputs["pixel_values"].to(plain.model.dtype)
    if plain.as_meta:
        inputs |= text_inputs(plain.model, inputs.pop("input_ids"), inputs["attention_mask"])
    return plain.model(**inputs)


def post_process(
    processor: Any,
    outputs: Any,
    size: tuple[int, int],
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
    as_meta: bool = False,
) -> dict[str, torch.Tensor]:
    """Return `scores` (N,), `boxes` (N, 4) xyxy in pixels and `masks` (N, H, W) int64.

    They are in the order of the queries. processor: a `Sam3Processor` or `Sam3ImageProcessor`.
    size: (height, width) of the image. as_meta: upsample masks as Meta's SAM 3 does.
    """
    if as_meta:
        return post_process_as_meta(processor, outputs, [size], threshold, mask_threshold)[0]
    results = processor.post_process_instance_segmentation(
        outputs, threshold=threshold, mask_threshold=mask_threshold, target_sizes=[size]
    )
    return results[0]


def masks_of(result: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """Each mask as (H, W) uint8, 255 on 0, best score first."""
    order = result["scores"].argsort(descending=True, stable=True)
    return [(result["masks"][i].cpu().numpy() * 255).astype(np.uint8) for i in order]


def overlay(
    image: Image.Image,
    masks: Sequence[np.ndarray],
    color: tuple[int, int, int] = GREEN,
    opacity: float = 0.5,
) -> Image.Image:
    """Return the picture with every masked pixel tinted once."""
    pixels = np.array(image)
    inside = np.zeros(pixels.shape[:2], dtype=bool)
    for mask in masks:
        inside |= mask > 0
    tinted = pixels[inside] * (1 - opacity) + np.array(color) * opacity
    pixels[inside] = tinted.round().astype(np.uint8)
    return Image.fromarray(pixels)


def picture_bytes(image: Image.Image, form: str = "PNG") -> bytes:
    """Return the picture as a file, with Pillow's own settings."""
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def write_zip(
    path: Path, image: Image.Image, result: dict[str, torch.Tensor], save_overlay: bool = False
) -> Path:
    """`mask_000.png` … and, where asked for, `overlay.png` in a ZIP."""
    masks = masks_of(result)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, mask in enumerate(masks):
            archive.writestr(f"mask_{index:03}.png", picture_bytes(Image.fromarray(mask)))
        if save_overlay:
            archive.writestr("overlay.png", picture_bytes(overlay(image, masks)))
    return path


def write_overlay(
    path: Path, image: Image.Image, result: dict[str, torch.Tensor], form: str = "PNG"
) -> Path:
    """Return the overlay alone."""
    path.write_bytes(picture_bytes(overlay(image, masks_of(result)), form))
    return path


def write_coco(path: Path, image: Image.Image, result: dict[str, torch.Tensor]) -> Path:
    """COCO annotations with run lengths from pycocotools."""
    annotations = []
    for index, mask in enumerate(masks_of(result)):
        runs = coco_masks.encode(np.asfortranarray(mask))
        annotations.append(
            {
                "id": index + 1,
                "image_id": 1,
                "category_id": 1,
                "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
                "area": int(coco_masks.area(runs)),
                "bbox": coco_masks.toBbox(runs).tolist(),
                "iscrowd": 0,
            }
        )
    picture = {"id": 1, "file_name": "image", "width": image.width, "height": image.height}
    document = {"images": [picture], "annotations": annotations}
    path.write_text(json.dumps(document))
    return path


def predict(
    plain: Plain,
    path: Path,
    output: Path,
    prompt: str,
    threshold: float = 0.5,
    save_overlay: bool = False,
) -> dict[str, torch.Tensor]:
    """Do the whole job for one image and one text: write the ZIP and return the result."""
    image = decode(path)
    inputs = preprocess(plain.processor, image, text=prompt)
    outputs = infer(plain, inputs)
    size = (image.height, image.width)
    result = post_process(plain.processor, outputs, size, threshold, as_meta=plain.as_meta)
    write_zip(output, image, result, save_overlay)
    return result
