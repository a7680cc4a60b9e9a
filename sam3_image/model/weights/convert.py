"""Meta's own checkpoints → folders that we load: safetensors, configuration, tokenizer.

The only code that opens a pickle, and it runs by hand, not in the server: it reads tensors alone
(`weights_only`), mapped into memory rather than copied. Every tensor is accounted for: what is
unknown, missing or of the wrong shape is an error, and nothing is filled with noise.
"""

from __future__ import annotations

import pickle
import shutil
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
from sam3_image.model.weights.meta_layout import Layout, layout_of
from sam3_image.model.weights.tokenizer import CLIP, FILES, find_tokenizer, first_line

DETECTOR = "detector_model."
# The smallest feature level, which SAM 3.1 does not have and no model reads: it is dropped before
# the heads. transformers' detector has weights for it nevertheless.
UNREAD = "detector_model.vision_encoder.neck.fpn_layers.3."
UNREAD_OF_TRACKER = "tracker_neck.fpn_layers.3."
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Plan:
    """How every weight of a folder is made, and what became of a file's tensors.

    make: gives each weight by name. used: names of tensors in the file that go into one.
    zeros: weights that are in no file of this layout and that no model reads.
    """

    make: Mapping[str, Callable[[], torch.Tensor]]
    used: frozenset[str]
    zeros: Sequence[str]


def convert(
    file: Path, folder: Path, tokenizer: str | None = None, config: Path | None = None
) -> str:
    """Write what `file` holds to the new `folder`; returns a sentence on what was done.

    tokenizer: see `find_tokenizer`; None: the one beside the file, else CLIP's from the hub.
    config: a config.json of a `Sam3VideoConfig` or `Sam3Config`; None: SAM 3's own sizes.
    `folder` appears complete or not at all. Raises CheckpointError.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} is there already; name a new folder.")
    tensors = _open(file)
    layout = layout_of(tensors)
    has_tracker = layout.has_tracker(tensors)
    described = _config(config, layout, has_tracker)
    plan = _plan(file, tensors, layout, _wanted(described, layout))
    words = find_tokenizer(tokenizer or _tokenizer_beside(file), Architecture.of(described).tokens)
    _write(folder, described, words, plan)
    said = [f"{folder} is ready: {len(plan.make)} weights from {len(plan.used)} of {len(tensors)}"]
    said.append(f"tensors in the layout of {layout.name}; the others are known and not needed")
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
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{file} holds {shown(type(content).__name__)}, not tensors by name; give Meta's "
            "checkpoint, a dictionary of them, alone or under 'model'."
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise CheckpointError(
            f"{file} holds more than tensors: {listed(others)}. Save the tensors alone, by name."
        )
    return content


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


def _plan(file: Path, tensors: Tensors, layout: Layout, wanted: Tensors) -> Plan:
    """Find what makes each weight; raises CheckpointError that names every tensor at fault."""
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
    faults = {"missing": missing, "unknown": unknown, "of an unexpected shape": misshapen}
    if any(faults.values()):
        said = "; ".join(
            f"{fault}: {listed(sorted(set(names)))}" for fault, names in faults.items() if names
        )
        raise CheckpointError(
            f"{file} was not converted. Of the layout of {layout.name} are {said}. Give a "
            "checkpoint of SAM 3 as Meta's code saves it, and --config if its sizes are others."
        )
    return Plan(make, frozenset(used), zeros)


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
