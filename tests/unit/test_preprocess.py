"""The encoder's input is bit for bit that of transformers' own processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.sam3.image_processing_sam3 import Sam3ImageProcessor

from sam3_image.model.transfer import digest, pixel_values, resize

SIZES = [(1, 1), (5, 7), (100, 3000), (768, 1024), (1500, 1008), (1008, 500), (1008, 1008)]


@pytest.mark.parametrize("side", [1008, 252])
@pytest.mark.parametrize("size", SIZES)
def test_equals_the_processor(size, side):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    processor = Sam3ImageProcessor(size={"height": side, "width": side})
    expected = processor(Image.fromarray(pixels), return_tensors="pt")["pixel_values"]
    values = pixel_values(pixels, side)
    assert values.dtype == torch.float32
    assert values.is_contiguous()
    torch.testing.assert_close(values, expected, rtol=0, atol=0)


def test_leaves_the_pixels_alone_and_reads_any_layout():
    pixels = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    before = pixels.copy()
    mirrored = pixel_values(pixels[:, ::-1], 56)
    np.testing.assert_array_equal(pixels, before)
    torch.testing.assert_close(mirrored, pixel_values(pixels[:, ::-1].copy(), 56), rtol=0, atol=0)
    same_size = pixel_values(pixels[:56, :56], 56)
    torch.testing.assert_close(
        same_size[0, 0] * 127.5 + 127.5, torch.from_numpy(pixels[:56, :56, 0]).float()
    )
    np.testing.assert_array_equal(pixels, before)


def test_digest_names_the_content():
    pixels = np.random.default_rng(2).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    changed = pixels.copy()
    changed[-1, -1, -1] ^= 255
    mirrored = pixels[:, ::-1]
    names = {digest(resize(each, 56)) for each in (pixels, changed, mirrored, pixels[..., ::-1])}
    assert len(names) == 4
    assert digest(resize(pixels.copy(), 56)) == digest(resize(pixels, 56))
