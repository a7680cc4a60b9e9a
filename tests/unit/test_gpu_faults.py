"""Faults of the device: too little memory, and a device that is lost.

The first also runs on a CPU, where the encoder raises what CUDA's allocator would.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

# Not from the helpers or from conftest.py, whose packages a lent machine may not have.
REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "weights" / "demo"
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

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

    weights, image, device = sys.argv[1:]
    settings = Settings.from_environment({"SAM3_WEIGHTS": weights, "SAM3_DEVICE": device})
    service, image = Service(settings), Path(image)
    many = Request.from_inputs(prompts=[f"circle {n}" for n in range(16)])
    assert service.computes()

    def allocated():
        return torch.cuda.memory_allocated() if device == "cuda" else 0

    encode = service._segmenter.encode
    def limit_memory(share):
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(share)
        else:
            def lacking(image):
                raise torch.OutOfMemoryError("CUDA out of memory.")
            service._segmenter.encode = encode if share == 1 else lacking
    """
)


def run(script: str, device: str) -> None:
    image = REPOSITORY / "examples" / "shapes.png"
    code = START + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, str(DEMO), str(image), device],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_too_little_device_memory_is_given_back(device: str) -> None:
    run(
        """
        before = allocated()
        limit_memory(1e-6)
        try:
            service.run(image, many)
            raise SystemExit("there was enough memory after all")
        except MemoryLimitError as error:
            assert "The device" in str(error), error
            assert error.__context__ is None, repr(error.__context__)
        limit_memory(1)
        assert allocated() <= before
        assert service.computes()
        assert service.run(image, Request.from_inputs()).path.exists()
        """,
        device,
    )


@needs_gpu
def test_a_lost_device_is_unhealthy() -> None:
    run(
        """
        try:  # an index out of range stops the device for this process
            torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")].cpu()
        except RuntimeError:
            pass
        assert not service.computes()
        """,
        "cuda",
    )
