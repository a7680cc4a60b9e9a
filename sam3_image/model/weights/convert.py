"""Convert Meta's own checkpoints to folders that load: safetensors, configuration, tokenizer.

Only this code opens a pickle. It is run by hand, never by the server, and reads nothing but tensors
(`weights_only`), mapped into memory rather than copied. Every tensor is accounted for: what is
unknown, missing or of the wrong shape is an error, and nothing is filled with noise.
"""

from __future__ import annotations

import pickle
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedTokenizerBase,
    Sam3ImageProcessor,
    Sam3Model,
    Sam3Processor,
    Sam3VideoConfig,
    Sam3VideoModel,
)
from transformers.initialization import no_init_weights

from sam3_image.errors import CheckpointError, shown
from sam3_image.model.architecture import Architecture
from sam3_image.model.compatibility import META
from sam3_image.model.device import Placement
from sam3_image.model.weights import tensor_file
from sam3_image.model.weights.checkpoint import listed, read_config
from sam3_image.model.weights.download import add_license, is_for_video
from sam3_image.model.weights.loading import WeightsLoader
from sam3_image.model.weights.meta_layout import Layout, foreign, layout_of, released_names
from sam3_image.model.weights.tokenizer import CLIP, FILES, find_tokenizer, first_line

DETECTOR = "detector_model."
# The smallest feature level, which SAM 3.1 does not have and no model reads: it is dropped before
# the heads. transformers' detector has weights for it nevertheless.
UNREAD = "detector_model.vision_encoder.neck.fpn_layers.3."
UNREAD_OF_TRACKER = "tracker_neck.fpn_layers.3."
NAMED = 5  # how many tensors at fault an error names
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Plan:
    """How every weight of a folder is made, and what becomes of a file's tensors.

    make: function for each weight, by name. used: names of the tensors that weights are made from.
    zeros: weights that no file of this layout has and no model reads.
    copies: number of tensors that are others of the file under a second name.
    faults: names of tensors by what is wrong with them; empty if the plan can be carried out.
    """

    make: Mapping[str, Callable[[], torch.Tensor]]
    used: frozenset[str]
    zeros: Sequence[str]
    copies: int
    faults: Mapping[str, Sequence[str]]


def convert(
    file: Path, folder: Path, tokenizer: str | None = None, config: Path | None = None
) -> str:
    """Convert `file` into the new `folder`; returns a sentence on what was done.

    tokenizer: see `find_tokenizer`; None: the one beside the file, else CLIP's from the hub.
    config: a config.json of a `Sam3VideoConfig` or `Sam3Config`; None: SAM 3's own sizes.
    `folder` appears complete or not at all. Raises CheckpointError; where more than a few tensors
    are at fault, all their names are in a text file beside `folder`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is there already; name a new folder.")
    tensors = _renamed(_open(file))
    layout = layout_of(tensors)
    has_tracker = layout.has_tracker(tensors)
    described = _config(config, layout, has_tracker)
    plan = _plan(tensors, layout, _wanted(described, layout))
    if any(plan.faults.values()):
        raise _refusal(file, folder, tensors, layout, plan.faults)
    words = find_tokenizer(tokenizer or _tokenizer_beside(file), Architecture.of(described).tokens)
    _write(folder, described, words, plan)
    said = [f"{folder} is ready: {len(plan.make)} weights from {len(plan.used)} of {len(tensors)}"]
    said.append(f"tensors in the layout of {layout.name}; the others are known and not needed")
    if plan.copies:
        said.append(f"; {plan.copies} are copies of others under a second name")
    if plan.zeros:
        said.append(f"; {len(plan.zeros)} weights that no model reads are zero")
    if not has_tracker:
        said.append("; there is no half for task='visual' in the file")
    return " ".join(said).replace(" ;", ";") + "."


def _open(file: Path) -> Tensors:
    """All tensors of a checkpoint by name, mapped from the file; raises CheckpointError."""
    if not file.is_file():
        raise CheckpointError(f"There is no file {file}; give the path of Meta's checkpoint.")
    if file.suffix == ".safetensors":
        return (
            WeightsLoader([file], Placement(torch.device("cpu"), torch.float32)).weights().tensors
        )
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{file} cannot be read as tensors alone ({first_line(error)}). Only files of "
            "torch.save (torch 1.6 or later) that hold nothing but tensors are converted."
        ) from None
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{file} holds {shown(type(content).__name__)}, not tensors by name; give Meta's "
            "checkpoint, a dictionary of them, alone or under 'model' or 'state_dict'."
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise CheckpointError(
            f"{file} holds more than tensors: {listed(others)}. Save the tensors alone, by name."
        )
    return content


def _renamed(tensors: Tensors) -> Tensors:
    """Return the same tensors by the names that Meta's released files have."""
    names = released_names(tensors)
    return {names[name]: tensor for name, tensor in tensors.items()}


def _config(path: Path | None, layout: Layout, tracker: bool) -> Any:
    """Return the configuration to write, of both halves or of the detector alone."""
    if path is not None:
        config = read_config(path)
    else:
        config = Sam3VideoConfig()
        for part in (config.detector_config, config.tracker_config):
            part.vision_config.backbone_config.layer_norm_eps = META.layer_norm_eps
    if not tracker:
        config = getattr(config, "detector_config", config)
        config.architectures = ["Sam3Model"]
        return config
    config.architectures = ["Sam3VideoModel"]
    if not hasattr(config, "tracker_config"):
        raise CheckpointError(
            f"{path} describes the detector alone, but the checkpoint holds a tracker too; give "
            "--config a configuration of both (model_type sam3_video)."
        )
    if not layout.iou_is_sigmoid:
        config.tracker_config.mask_decoder_config.iou_prediction_use_sigmoid = False
    if not layout.has_memory:
        # The tracker's neck makes no level below the patch grid.
        factors = config.tracker_config.vision_config.scale_factors
        config.tracker_config.vision_config.scale_factors = factors[:3]
    return config


def _wanted(config: Any, layout: Layout) -> Tensors:
    """Return the weights of both halves, or of the detector, without their values (meta device)."""
    both = hasattr(config, "tracker_config")
    with torch.device("meta"), no_init_weights():
        if not both:
            weights = Sam3Model(config).state_dict()
            return {DETECTOR + name: value for name, value in weights.items()}
        weights = Sam3VideoModel(config).state_dict()
    if layout.has_memory:
        return weights
    return {
        name: value
        for name, value in weights.items()
        if not is_for_video(name) and not name.startswith(UNREAD_OF_TRACKER)
    }


def _plan(tensors: Tensors, layout: Layout, wanted: Tensors) -> Plan:
    """Find the tensors that each weight is made from, and those at fault."""
    make: dict[str, Callable[[], torch.Tensor]] = {}
    used: set[str] = set()
    missing: list[str] = []
    misshapen: list[str] = []
    zeros: list[str] = []
    for name, value in wanted.items():
        source = layout.source(name)
        used.update(part for part in source.names if part in tensors)
        lacking = [part for part in source.names if part not in tensors]
        if lacking and not layout.has_memory and name.startswith(UNREAD):
            zeros.append(name)
            make[name] = partial(torch.zeros, value.shape)
        elif lacking:
            missing += lacking
        else:
            found = [tensors[part] for part in source.names]
            make[name] = partial(source.make, found)
            if _shape(make[name]) != value.shape:
                shapes = ", ".join(str(tuple(tensor.shape)) for tensor in found)
                misshapen.append(f"{source.names[0]} {shapes}")
    unknown = [name for name in tensors if name not in used and not layout.drops(name)]
    copies = _copies(tensors, unknown)
    faults = {
        "missing": sorted(set(missing)),
        "unknown": sorted(set(unknown) - copies),
        "of an unexpected shape": sorted(misshapen),
    }
    return Plan(make, frozenset(used), zeros, len(copies), faults)


def _copies(tensors: Tensors, names: Sequence[str]) -> set[str]:
    """Return those of `names` whose tensor the file has under another name as well.

    All values are equal, and so are module and parameter at the end of both names, as far as both
    have them: tensors of equal values alone may be constants that training did not touch.
    """
    others = defaultdict(list)
    for name in tensors.keys() - set(names):
        *_, module, parameter = ("", *name.split("."))
        others[parameter].append((module, tensors[name]))

    def is_copy(name: str) -> bool:
        *_, module, parameter = ("", *name.split("."))
        return any(
            module in ("", other_module) and torch.equal(tensors[name], other)
            for other_module, other in others[parameter]
            if tensors[name].dtype == other.dtype
        )

    return {name for name in names if is_copy(name)}


def _refusal(
    file: Path, folder: Path, tensors: Tensors, layout: Layout, faults: Mapping[str, Sequence[str]]
) -> CheckpointError:
    """Return the error that names a few tensors of each fault, after writing all to a file."""
    if what := foreign(tensors):
        return CheckpointError(f"{file} was not converted: it seems to be {what}.")
    said = "; ".join(f"{fault}: {listed(names, NAMED)}" for fault, names in faults.items() if names)
    where = ""
    if any(len(names) > NAMED for names in faults.values()):
        path = folder.with_name(folder.name + ".faults.txt")
        lines = [f"{fault}: {name}\n" for fault, names in faults.items() for name in names]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines))
            where = f" {path} lists all of them."
        except OSError:  # the few that are named must do
            pass
    return CheckpointError(
        f"{file} was not converted. It seems to be in the layout of {layout.name}, of which are "
        f"{said}.{where} Give a checkpoint of SAM 3 as Meta's code saves it, and --config if its "
        "sizes are others."
    )


def _shape(make: Callable[[], torch.Tensor]) -> torch.Size | None:
    try:
        return make().shape
    except (RuntimeError, IndexError):  # too few dimensions to be cut up
        return None


def _write(folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase, plan: Plan) -> None:
    """Write the folder, which appears complete or not at all."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    # A checkpoint of the detector alone has the names of its class.
    alone = "" if hasattr(config, "tracker_config") else DETECTOR
    make = {name.removeprefix(alone): maker for name, maker in plan.make.items()}
    shapes = {name: maker().to("meta") for name, maker in make.items()}
    try:
        fresh.mkdir(parents=True)
        _write_small(fresh, config, tokenizer)
        tensor_file.write(fresh / "model.safetensors", shapes, make)
        if folder.is_dir():
            folder.rmdir()
        fresh.rename(folder)
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be written: {error.strerror}. Free space, or name another folder."
        ) from None


def _write_small(folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write configuration, tokenizer, processor and licence."""
    half = getattr(config, "detector_config", config)
    if len(tokenizer) != half.text_config.vocab_size:
        raise CheckpointError(
            f"The tokenizer has {len(tokenizer)} entries, but the text encoder knows "
            f"{half.text_config.vocab_size}; name the tokenizer of this model with --tokenizer."
        )
    side = Architecture.of(config).side
    mask_side = half.vision_config.backbone_feature_sizes[0][0]
    images = Sam3ImageProcessor(
        size={"height": side, "width": side}, mask_size={"height": mask_side, "width": mask_side}
    )
    config.save_pretrained(folder)
    Sam3Processor(images, tokenizer, target_size=side).save_pretrained(folder)
    add_license(folder)


def _tokenizer_beside(file: Path) -> str:
    return str(file.parent) if any((file.parent / name).is_file() for name in FILES) else CLIP
