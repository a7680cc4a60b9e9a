"""Random weights in Meta's own layout: a transformers model's, under the names of `sam3.pt`.

`python -m tests.helpers.meta_checkpoint FOLDER` makes `sam3.pt` of full size, and
`expected.safetensors` with the weights that it was made from.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Sam3VideoConfig, Sam3VideoModel

from tests.helpers.meta_modules import State, meta_state


def random_state(config: Sam3VideoConfig, seed: int = 0) -> State:
    """Every weight of a `Sam3VideoModel`, none of them zero or like another."""
    torch.manual_seed(seed)
    state = Sam3VideoModel(config).state_dict()
    for name, tensor in state.items():
        if tensor.numel() <= 1 << 20:  # the rest is random already
            state[name] = torch.randn_like(tensor)
    shared = "tracker_model.shared_image_embedding.positional_embedding"
    twin = "tracker_model.prompt_encoder.shared_embedding.positional_embedding"
    state[twin] = state[shared].clone()
    return state


def as_sam31(meta: State) -> State:
    """The same image model in the layout of SAM 3.1, with as many tensors as Meta's code has.

    Those that only video needs have values and shapes of no model, and most of them no real names.
    """
    changed: State = {}
    for name, tensor in meta.items():
        if ".convs.3." in name or ".sam2_convs.3." in name:
            continue
        if name.startswith("tracker.sam_"):
            changed[name.replace("tracker.sam_", "tracker.model.interactive_sam_")] = tensor
        elif name == "tracker.no_mem_embed":
            changed["tracker.model.interactivity_no_mem_embed"] = tensor
        elif not name.startswith("tracker."):
            changed[name.replace(".sam2_convs.", ".interactive_convs.")] = tensor
            if ".sam2_convs." in name:
                changed[name.replace(".sam2_convs.", ".propagation_convs.")] = tensor
    for name in (*_video_names(), "sam_mask_decoder.iou_token.weight"):
        changed[f"tracker.model.{name}"] = torch.rand(3, 5)
    return changed


def _video_names() -> Iterator[str]:
    """The names under `tracker.model.` that SAM 3.1 has for video, all but one."""
    for prefix, count in (
        ("transformer", 122),
        ("sam_mask_decoder", 124),
        ("maskmem_backbone", 38),
    ):
        yield from (f"{prefix}.layers.{index}.weight" for index in range(count))
    layers = [f"{kind}obj_ptr_proj.layers.{n}" for kind in ("", "interactive_") for n in range(3)]
    modules = [*layers, "interactive_mask_downsample", "obj_ptr_tpos_proj", "no_obj_ptr_linear"]
    yield from (f"{module}.{leaf}" for module in modules for leaf in ("weight", "bias"))
    yield from ("maskmem_tpos_enc", "no_obj_embed_spatial", "output_valid_embed")
    yield from ("output_invalid_embed", "image_pe_layer.positional_encoding_gaussian_matrix")


def write_pairs(path: Path, pairs: list[tuple[str, str]]) -> Path:
    """A file as Meta's `bpe_simple_vocab_16e6.txt.gz`, with those pairs."""
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs), ""]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def main(folder: Path) -> None:
    """Write full-size random weights in both layouts, for a run of the command by hand."""
    folder.mkdir(parents=True, exist_ok=True)
    state = random_state(Sam3VideoConfig())
    save_file(state, folder / "expected.safetensors")
    torch.save({"model": meta_state(state)}, folder / "sam3.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
