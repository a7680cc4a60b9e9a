"""`value_range` for every caller: over HTTP, from Python and from the command line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

import sam3_image
from sam3_image import cli
from tests.helpers.cog_server import CogServer, Result, data_url
from tests.helpers.second_scenes import arranged

SCENE = np.asarray(arranged(["red circle", "blue square", "green triangle"])[0])
# The same scene as a camera of 12 bits sees it: dark where 16 bits are expected.
DEEP = SCENE.astype(np.uint16) * 16


def as_png(values: np.ndarray) -> bytes:
    """Gray of 16 bits as a PNG."""
    buffer = io.BytesIO()
    Pillow.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


GRAY = as_png(DEEP[..., 1])
OVERLAY = {"return_zip": False, "threshold": 1.0, "mask_opacity": 0.0}  # the image as it was seen


def answered(server: CogServer, **inputs: Any) -> Result:
    result = server.predict(image=data_url(GRAY), prompt="red circle", **OVERLAY, **inputs)
    assert result.status == "succeeded", result.error
    return result


def test_over_http(server: CogServer) -> None:
    right = float(DEEP[..., 1].mean()) / 4080 * 255
    plain, ranged = (answered(server, value_range=text) for text in ("type", "0,4080"))
    assert plain.pixels().mean() == pytest.approx(right / 16, abs=1)
    assert ranged.pixels().mean() == pytest.approx(right, abs=1)
    assert "Values: 0 shown black to 4,080 white" in ranged.logs
    assert answered(server).pixels().mean() > right / 2
    refused = server.predict(image=data_url(GRAY), value_range="4095,0")
    assert "value_range is '4095,0'; give auto, type, or LOW,HIGH" in refused.error


def test_from_python(weights: Path) -> None:
    sam = sam3_image.load(weights, device="cpu")
    seen = sam.find(DEEP, "red circle", value_range="0,4080").image.pixels
    assert np.array_equal(seen, SCENE)
    floats = sam.find(SCENE / 255.0, "red circle", value_range="0,1").image.pixels
    assert np.array_equal(floats, SCENE)
    with pytest.raises(sam3_image.InputError, match="value_range 'type' for values from 0 to 1"):
        sam.find(SCENE / 255.0, "red circle")
    with pytest.raises(sam3_image.InputError, match="give auto, type, or LOW,HIGH"):
        sam.pick(SCENE, points=[[1, 1]], value_range="full")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "deep.png"
    image.write_bytes(GRAY)
    assert cli.main(["predict", str(image), "--value-range", "4095"]) == cli.USAGE_ERROR
    assert "value_range is '4095'" in capsys.readouterr().err
