"""Faults of the device, where there is one: too little memory, and a device that is lost."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tests.helpers.cog_server import REPOSITORY

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

# In a process of its own: a lost device stays lost.
START = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import torch
    from sam3_image.errors import MemoryLimitError
    from sam3_image.request import Request
    from sam3_image.serving import Service
from sam3_image.settings import Settings

    settings = Settings.from_environment({"SAM3_WEIGHTS": sys.argv[1], "SAM3_DEVICE": "cuda"})
    service = Service(settings)
    image = Path(sys.argv[2])
    assert service.healthy()
    """
)


def run(script: str, weights: Path) -> None:
    image = REPOSITORY / "examples" / "shapes.png"
    code = START + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, str(weights), str(image)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_too_little_device_memory_is_given_back(weights: Path) -> None:
    run(
        """
        before = torch.cuda.memory_allocated()
        torch.cuda.set_per_process_memory_fraction(1e-6)
        try:
            torch.cuda.empty_cache()
            service.run(image, Request.from_inputs(prompts=[f"circle {n}" for n in range(16)]))
            raise SystemExit("there was enough memory after all")
        except MemoryLimitError as error:
            assert "The device" in str(error)
        torch.cuda.set_per_process_memory_fraction(1.0)
        assert torch.cuda.memory_allocated() <= before
        assert service.healthy()
        service.run(image, Request.from_inputs())
        """,
        weights,
    )


def test_a_lost_device_is_unhealthy(weights: Path) -> None:
    run(
        """
        try:  # an index out of range stops the device for this process
            torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].cpu()
        except RuntimeError:
            pass
        assert not service.healthy()
        """,
        weights,
    )
