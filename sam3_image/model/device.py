"""Where the model runs and in which dtype: the one place that decides both.

The rule for dtypes: weights, images and features are in `Placement.dtype`; coordinates stay
float32 until they are normalised; whatever leaves the model is float32 on the host, because NumPy
has no bfloat16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sam3_image.errors import DeviceError, shown

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Placement:
    """The compute device and the dtype of weights and features."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Placement:
        """Read SAM3_DEVICE and SAM3_DTYPE; unset: CUDA with bfloat16, else CPU with float32.

        Raises DeviceError for a device that is not there or a dtype that it cannot run.
        """
        device = _device(environment.get("SAM3_DEVICE", "").strip())
        name = environment.get("SAM3_DTYPE", "").strip()
        if not name:
            return cls(device=device, dtype=_default_dtype(device))
        if name not in DTYPES:
            raise DeviceError(
                f"SAM3_DTYPE is {shown(name)}; allowed are {', '.join(DTYPES)}. "
                "Unset it for the default (bfloat16 on CUDA, float32 on the CPU)."
            )
        return cls(device=device, dtype=DTYPES[name])

    def __str__(self) -> str:
        return f"{self.device} in {str(self.dtype).removeprefix('torch.')}"


def _device(name: str) -> torch.device:
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # not a name that torch knows: refused below
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(
            f"SAM3_DEVICE is {shown(name)}; allowed are cpu, cuda, cuda:0, cuda:1, …. "
            "Unset it to use CUDA where there is a GPU."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"SAM3_DEVICE is {shown(name)}, but torch sees {torch.cuda.device_count()} CUDA "
            "devices here. Check the driver and `--gpus`, or set SAM3_DEVICE=cpu."
        )
    return device


def _default_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cpu":
        return torch.float32
    with torch.cuda.device(device):
        # Emulated bfloat16 (before Ampere) is slower than float16 and no more exact.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16
