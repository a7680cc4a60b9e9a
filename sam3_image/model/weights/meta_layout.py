"""Which tensor of a Meta checkpoint a weight of transformers comes from, in each layout."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from sam3_image.model.weights.meta_names import PARTS, Part

# Tables that follow from the sizes, and the projections of points as exemplars, which no released
# interface of SAM 3 takes.
DROPPED = (
    r"\.freqs_cis(_real|_imag)?$",
    r"^detector\.geometry_encoder\.points_(direct|pool|pos_enc)_project\.",
)
# The number of point embeddings, which Meta keeps apart: off, on, and two corners of a box.
POINT_KINDS = 4


@dataclass(frozen=True)
class TensorRecipe:
    """Where a weight comes from: names of Meta's tensors, and what makes one weight of them.

    `make` only views and joins: it works on the meta device too, and reads nothing but a few
    small tensors.
    """

    names: tuple[str, ...]
    make: Callable[[Sequence[torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class Layout:
    """One way in which Meta's code names the tensors of a file.

    respelled: beginnings of names as in `sam3.pt` → here; the first that fits.
    dropped: patterns of names, as in the file, of tensors that no model of transformers has.
    has_memory: whether the video half has the shapes of transformers' classes.
    iou_is_sigmoid: whether the mask decoder's estimate of IoU goes through a sigmoid.
    """

    name: str
    respelled: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = DROPPED
    has_memory: bool = True
    iou_is_sigmoid: bool = True

    def source(self, name: str) -> TensorRecipe:
        """Say where the weight `name` of a `Sam3VideoModel` comes from."""
        found = _source(name)
        return TensorRecipe(tuple(self._spelled(meta) for meta in found.names), found.make)

    def drops(self, name: str) -> bool:
        """Whether the tensor `name` of a file has nothing to give to any of our models."""
        return any(re.search(pattern, name) for pattern in self.dropped)

    def has_tracker(self, names: Collection[str]) -> bool:
        """Whether a file with tensors of those names holds the half for task='visual'."""
        return self._spelled("tracker.sam_mask_decoder.iou_token.weight") in names

    def _spelled(self, name: str) -> str:
        for ours, theirs in self.respelled:
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name


SAM3 = Layout("SAM 3")
NECK_OF_31 = "detector.backbone.vision_backbone.interactive_convs."
SAM31 = Layout(
    "SAM 3.1",
    respelled=(
        ("detector.backbone.vision_backbone.sam2_convs.", NECK_OF_31),
        ("tracker.sam_", "tracker.model.interactive_sam_"),
        ("tracker.no_mem_embed", "tracker.model.interactivity_no_mem_embed"),
    ),
    dropped=(
        *DROPPED,
        r"^detector\.backbone\.vision_backbone\.propagation_convs\.",
        # Tracking of many objects at once, which transformers has no class for.
        r"^tracker\.model\.(?!interactiv)",
    ),
    has_memory=False,
    iou_is_sigmoid=False,
)
# What Meta's training code saves of the image model: the same without the first word.
TRAINED = Layout(
    "SAM 3 as its training saves it",
    respelled=(("detector.", ""), ("tracker.", "inst_interactive_predictor.model.")),
    dropped=(DROPPED[0], DROPPED[1].replace(r"detector\.", "")),
)


def layout_of(names: Collection[str]) -> Layout:
    """Recognise the layout of a file by the names of its tensors."""
    if any(name.startswith(("tracker.model.", NECK_OF_31)) for name in names):
        return SAM31
    return SAM3 if any(name.startswith("detector.") for name in names) else TRAINED


def _source(name: str) -> TensorRecipe:
    """Say where a weight comes from, with the names of `sam3.pt`."""
    part = next(part for part in PARTS if name.startswith(part.ours))
    if name == "tracker_model.prompt_encoder.point_embed.weight":
        kinds = (f"{part.meta}point_embeddings.{kind}.weight" for kind in range(POINT_KINDS))
        return TensorRecipe(tuple(kinds), lambda found: torch.cat(list(found)))
    fused = part.fused and re.search(r"\.([qkv])_proj\.(?=(?:weight|bias)$)", name)
    if fused:
        index = "qkv".index(fused[1])
        whole = f"{name[: fused.start()]}.{part.fused}{name[fused.end() :]}"
        return TensorRecipe((_renamed(whole, part),), lambda found: _third(found[0], index))
    makers: dict[str, Callable[[Sequence[torch.Tensor]], torch.Tensor]] = {
        # Meta's table begins with the position of a class token, which SAM 3 does not have.
        "embeddings.position_embeddings": lambda found: found[0][:, 1:],
        "text_encoder.text_projection.weight": lambda found: found[0].T,
    }
    make = next(
        (maker for end, maker in makers.items() if name.endswith("." + end)), lambda found: found[0]
    )
    return TensorRecipe((_renamed(name, part),), make)


def _renamed(name: str, part: Part) -> str:
    rest = re.sub(r"\.o_proj\.", ".out_proj.", name.removeprefix(part.ours))
    for pattern, replacement in part.renames:
        rest = re.sub(pattern, replacement, rest)
    return part.meta + rest


def _third(tensor: torch.Tensor, index: int) -> torch.Tensor:
    """One of the three parts of a tensor along its first dimension; empty if there are fewer."""
    return tensor.tensor_split(3)[index]
