"""Which tensors of Meta's checkpoints, in each of their layouts, a weight is made from."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from sam3_image.model.weights.meta_names import PARTS, NamePart

# Prefixes that other programs put before every name: DistributedDataParallel, torch.compile,
# Lightning.
WRAPPERS = ("module.", "_orig_mod.", "model.")
# Meta's internal names of the two halves → those of the released files.
INTERNAL = (("sam3_model.", "detector."), ("sam2_predictor.", "tracker."))
# How names begin in files of other models, and what these are.
FOREIGN = {
    "detector_model.": "in transformers' own names, which load unconverted: put it into a folder "
    "with its config.json and tokenizer",
    "image_encoder.": "a checkpoint of SAM or SAM 2, which are other models",
    "vision_encoder.": "one half of SAM 3 in transformers' own names, which load unconverted: put "
    "it into a folder with its config.json and tokenizer",
}
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
    """The names of the tensors in Meta's file that a weight is made from, and the function for it.

    `make` only views and joins them: it works on the meta device too, and reads only small tensors.
    """

    names: tuple[str, ...]
    make: Callable[[Sequence[torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class Layout:
    """One of the ways in which Meta's code names the tensors of a file.

    respelled: prefixes of names in `sam3.pt` → in this layout; the first match counts.
    dropped: patterns of names, as in the file, of tensors that no model of transformers has.
    has_memory: whether the video half has the shapes of transformers' classes.
    iou_is_sigmoid: whether the mask decoder's estimate of IoU is the output of a sigmoid.
    """

    name: str
    respelled: tuple[tuple[str, str], ...] = ()
    dropped: tuple[str, ...] = DROPPED
    has_memory: bool = True
    iou_is_sigmoid: bool = True

    def source(self, name: str) -> TensorRecipe:
        """Return where the weight `name` of a `Sam3VideoModel` comes from."""
        found = _source(name)
        return TensorRecipe(tuple(self._spelled(meta) for meta in found.names), found.make)

    def drops(self, name: str) -> bool:
        """Return whether no model of ours needs the tensor `name` of a file."""
        return any(re.search(pattern, name) for pattern in self.dropped)

    def has_tracker(self, names: Collection[str]) -> bool:
        """Return whether a file with these names holds the half for task='visual'."""
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
        # Tracking of many objects at once, which transformers has no class for, and
        # interactive_obj_ptr_proj and interactive_mask_downsample, which only video needs.
        r"^tracker\.model\.(?!interactive_sam_|interactivity_no_mem_embed$)",
    ),
    has_memory=False,
    iou_is_sigmoid=False,
)
# What Meta's training code saves of the image model: the same names without `detector.`.
TRAINED = Layout(
    "SAM 3 as its training saves it",
    respelled=(("detector.", ""), ("tracker.", "inst_interactive_predictor.model.")),
    dropped=(DROPPED[0], DROPPED[1].replace(r"detector\.", "")),
)


def released_names(names: Collection[str]) -> dict[str, str]:
    """Map each name in a file to its name in Meta's released files, without what wraps it.

    A name that would become another's stays as it is.
    """
    wrapped = ""
    while prefix := next(
        (w for w in WRAPPERS if all(name.startswith(wrapped + w) for name in names)), ""
    ):
        wrapped += prefix
    found = {name: name.removeprefix(wrapped) for name in names}
    rules = list(INTERNAL)
    is_31 = any(".interactive_" in name for name in names)
    if not is_31:  # in SAM 3 the video half has no module of that name
        rules += [("tracker.model.", "tracker.")]
    for old, new in rules:
        taken = set(found.values())
        for name, own in found.items():
            renamed = new + own.removeprefix(old)
            if own.startswith(old) and renamed not in taken:
                found[name] = renamed
    return found


def foreign(names: Collection[str]) -> str:
    """Say what a file that is not Meta's SAM 3 seems to be; empty if its names do not tell."""
    return next(
        (what for start, what in FOREIGN.items() if any(n.startswith(start) for n in names)), ""
    )


def layout_of(names: Collection[str]) -> Layout:
    """Return the layout of a file with these names, as `released_names` gives them."""
    if any(name.startswith(("tracker.model.", NECK_OF_31)) for name in names):
        return SAM31
    return SAM3 if any(name.startswith("detector.") for name in names) else TRAINED


def _source(name: str) -> TensorRecipe:
    """Return where a weight comes from, in the names of `sam3.pt`."""
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


def _renamed(name: str, part: NamePart) -> str:
    rest = re.sub(r"\.o_proj\.", ".out_proj.", name.removeprefix(part.ours))
    for pattern, replacement in part.renames:
        rest = re.sub(pattern, replacement, rest)
    return part.meta + rest


def _third(tensor: torch.Tensor, index: int) -> torch.Tensor:
    """One of the three parts of a tensor along its first dimension; empty if there are fewer."""
    return tensor.tensor_split(3)[index]
