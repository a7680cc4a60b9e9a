"""Matrix products in fewer bits than the rest of the model, for a CPU.

Nearly all of a CPU's time goes into linear layers and convolutions. They run in bfloat16, or the
vision encoder's linear layers in int8, and everything between them (attention, norms, sums) in
float32, which is as fast there and more exact. So is what a coordinate or a score comes out of.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
# Small layers whose results are the answer itself: boxes, scores, presence.
ANSWERS = (
    "box_head",
    "presence_head",
    "dot_product_scoring",
    "iou_prediction_head",
    "pred_obj_score_head",
)
QUANTIZED = "vision_encoder.backbone."
# Of torch's own engines the fastest here; it needs VNNI, which `Placement` sees to.
ENGINE = "onednn"


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights, one scale per output channel.

    Its input is quantized at each call, by its own smallest and largest value.
    """

    def __init__(self, layer: nn.Linear) -> None:
        """Quantize the weights of `layer`."""
        super().__init__()
        weight = layer.weight.detach().float()
        smallest = torch.finfo(torch.float32).tiny
        scales = (weight.abs().amax(dim=1) / 127).clamp_min(smallest).double()
        zeros = torch.zeros(len(scales), dtype=torch.long)
        whole = torch.quantize_per_channel(weight, scales, zeros, axis=0, dtype=torch.qint8)
        bias = None if layer.bias is None else layer.bias.detach().float()
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = ENGINE
        try:
            self._packed = torch.ops.quantized.linear_prepack(whole, bias)
        finally:
            torch.backends.quantized.engine = before

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, in) → (…, out), float32."""
        return torch.ops.quantized.linear_dynamic(input, self._packed, False)


def is_lowered(model: nn.Module, name: str, products: torch.dtype | None) -> bool:
    """Whether the layer of that name computes in `products` rather than in the model's dtype."""
    layer = model.get_submodule(name)
    if products is torch.int8:
        return type(layer) is nn.Linear and name.startswith(QUANTIZED)
    if products is None or not isinstance(layer, PRODUCTS):
        return False
    return not any(part in ANSWERS for part in name.split("."))


def lower(model: nn.Module, names: set[str], products: torch.dtype | None) -> None:
    """Let the layers of those names compute in `products`, with float32 going in and out.

    Their weights are in `products` already, but for int8.
    """
    for name in names:
        layer = model.get_submodule(name)
        if products is torch.int8:
            assert isinstance(layer, nn.Linear)
            model.set_submodule(name, Int8Linear(layer))
        else:
            layer.register_forward_pre_hook(_to_bfloat16)
            layer.register_forward_hook(_to_float32)


def _to_bfloat16(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].to(torch.bfloat16), *inputs[1:])


def _to_float32(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
    return output.float()
