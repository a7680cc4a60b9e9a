"""What the tests of several clients' routes share."""

from __future__ import annotations

import io
import time
from typing import Any

from PIL import Image

from tests.helpers.cog_server import REPOSITORY

SHAPES = (REPOSITORY / "examples" / "shapes.png").read_bytes()
CIRCLE = "red circle"


def small(width: int, height: int, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, form)
    return buffer.getvalue()


def wait_for(ask: Any, *while_it_is: str) -> str:
    """The first other answer of `ask`."""
    end = time.monotonic() + 60
    while (answer := ask()) in while_it_is:
        assert time.monotonic() < end
        time.sleep(0.02)
    return answer
