"""Where the model runs and in which dtype: the one place that decides both.

The rule for dtypes: weights, images and features are in `Placement.dtype`; coordinates, boxes and
scores are float32 from one end to the other; maps of masks leave a model in half precision as
float16, because NumPy has no bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sam3_image.errors import DeviceError, shown
from sam3_image.model.processor import Processor
from sam3_image.settings import Settings

# The series of NVIDIA drivers from which on a version of CUDA runs.
DRIVERS = {"12": "525", "13": "580"}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class Placement:
    """The compute device and the dtype of weights and features.

    products: what matrix products are computed in where that is not `dtype`, on a CPU: bfloat16
        (linear layers and convolutions) or int8 (linear layers of the vision encoder).
    """

    device: torch.device
    dtype: torch.dtype
    products: torch.dtype | None = None

    @classmethod
    def of(cls, settings: Settings) -> Placement:
        """As SAM3_DEVICE and SAM3_DTYPE say; unset: CUDA with bfloat16, else CPU with float32.

        Raises DeviceError for a device that is not there or a dtype that it cannot run.
        """
        device, name = _device(settings.device), settings.dtype
        if not name:
            return cls(device=device, dtype=_default_dtype(device))
        if name == "int8":
            return cls._int8(device)
        if name not in DTYPES:
            raise DeviceError(
                f"SAM3_DTYPE is {shown(name)}; allowed are {', '.join(DTYPES)}, and int8 on a CPU. "
                "Unset it for the default (bfloat16 on CUDA, float32 on the CPU)."
            )
        if device.type == "cpu" and name == "bfloat16":
            return cls(device, torch.float32, torch.bfloat16)
        return cls(device=device, dtype=DTYPES[name])

    @classmethod
    def _int8(cls, device: torch.device) -> Placement:
        if device.type != "cpu":
            raise DeviceError(
                f"SAM3_DTYPE is 'int8', which is for a CPU, but the model runs on {device}. Unset "
                "it for the device's default, or set SAM3_DEVICE=cpu."
            )
        if not Processor.here().has_int8:
            raise DeviceError(
                "SAM3_DTYPE is 'int8', but this processor has no instructions for it (VNNI or "
                "AMX). Unset it for float32."
            )
        return cls(device, torch.float32, torch.int8)

    def advice(self, processor: Processor | None = None) -> str | None:
        """Return a line for the log where another dtype would be faster on a CPU, else None.

        processor: None for the one of this machine.
        """
        if self.device.type != "cpu":
            return None
        processor = processor or Processor.here()
        if self.products is torch.bfloat16 and not processor.fast_bfloat16:
            has = "slow" if processor.has_bfloat16 else "no"
            return (
                f"Warning: this processor has {has} instructions for bfloat16; products in float32 "
                "are faster here. Unset SAM3_DTYPE"
                + (", or set it to int8." if processor.has_int8 else ".")
            )
        faster = [name for name, has in _speeds(processor).items() if has]
        if self.products is not None or self.dtype is not torch.float32 or not faster:
            return None
        return (
            f"This processor computes faster with SAM3_DTYPE={' or '.join(faster)}, at slightly "
            "different masks and scores (docs/weights.md)."
        )

    def not_finite(self) -> DeviceError:
        """The error for scores that are NaN or infinite, which would read as "nothing found"."""
        if self.dtype is torch.float32 and self.products is None:
            advice = "Check the device; fetch the weights again if another one says the same."
        elif self.dtype is torch.float16:
            advice = "float16 overflows beyond 65504: set SAM3_DTYPE to bfloat16 or float32."
        else:
            advice = "Set SAM3_DTYPE=float32."
        return DeviceError(
            f"The model's scores are not finite numbers (NaN or infinity) on {self}. {advice}"
        )

    def __str__(self) -> str:
        products = "" if self.products is None else f", matrix products in {_name(self.products)}"
        return f"{self.device} in {_name(self.dtype)}{products}"


def free_memory(device: torch.device) -> int:
    """Bytes that a GPU can still give this process: nobody's, and those that torch keeps unused."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def missing_gpu(settings: Settings) -> str | None:
    """Why the model would compute on the CPU although this torch was built for a GPU, as one line.

    None where a GPU answers, where SAM3_DEVICE decides, and where torch has no CUDA.
    """
    cuda = torch.version.cuda
    if settings.device or cuda is None or torch.cuda.is_available():
        return None
    try:
        torch.cuda.init()
        reason = "there is none"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
    series = DRIVERS.get(cuda.partition(".")[0], "newest")
    return (
        f"No GPU answers, but this torch was built for one ({reason}). CUDA {cuda} needs an NVIDIA "
        f"driver of the {series} series or newer, and a container needs --gpus all; or set "
        "SAM3_DEVICE=cpu to compute on the CPU."
    )


def _speeds(processor: Processor) -> dict[str, bool]:
    return {"bfloat16": processor.fast_bfloat16, "int8": processor.has_int8}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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
