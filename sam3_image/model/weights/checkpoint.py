"""Weights: where they are, that they are whole and SAM 3's, and onto the device in one dtype.

The folder is laid out as `facebook/sam3`: `config.json` (a `Sam3VideoConfig`), tokenizer files and
safetensors with the keys `detector_model.*`, `tracker_neck.*` and `tracker_model.*`. Pickles are
never opened. transformers only warns about missing weights and fills them with noise; here every
doubt is an error, raised within seconds.
"""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, CLIPTokenizer, PreTrainedModel, Sam3Model, Sam3TrackerModel

from sam3_image.errors import CheckpointError, shown
from sam3_image.model.reference import Reference
from sam3_image.model.weights.loading import load
from sam3_image.model.weights.reading import Reading, Weights, weight_files

TOKENIZERS = ("tokenizer.json", "vocab.json")
MODEL_TYPES = ("sam3_video", "sam3")
# How many faulty weights an error names.
NAMED = 3
# How the names of each half begin in a checkpoint of both → in its class. A checkpoint of the
# detector alone has the names of the class.
DETECTOR_NAMES = {"detector_model.": ""}
TRACKER_NAMES = {
    "detector_model.vision_encoder.backbone.": "vision_encoder.backbone.",
    "tracker_neck.": "vision_encoder.neck.",
    "tracker_model.": "",
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights that was found to be complete on disk; nothing is loaded yet."""

    folder: Path
    config: Any  # Sam3VideoConfig or Sam3Config

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Check configuration and files of `folder`; raises CheckpointError."""
        config = _read_config(folder)
        files = weight_files(folder)
        if not files:
            raise CheckpointError(
                f"There is no .safetensors file in {folder}. Fetch the weights again with "
                "script/download-weights (pickled .pt and .bin files are never loaded)."
            )
        for file in files:
            _check_whole(file)
        return cls(folder=folder, config=config)

    @property
    def files(self) -> list[Path]:
        """The safetensors files, in order."""
        return weight_files(self.folder)

    @property
    def has_tracker(self) -> bool:
        """Whether the half for task='visual' is in this checkpoint."""
        return getattr(self.config, "tracker_config", None) is not None

    @property
    def bytes_on_disk(self) -> int:
        """Size of the safetensors files."""
        return sum(file.stat().st_size for file in self.files)

    def tokenizer(self) -> CLIPTokenizer:
        """The CLIP tokenizer of the text encoder; raises CheckpointError if it is not there."""
        # Without its files transformers makes a tokenizer that knows no word, and says nothing.
        if not any((self.folder / name).is_file() for name in TOKENIZERS):
            raise CheckpointError(
                f"There is no tokenizer in {self.folder} ({' or '.join(TOKENIZERS)}). "
                "Fetch the weights again with script/download-weights."
            )
        try:
            return CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"The tokenizer in {self.folder} cannot be loaded ({_first_line(error)}). "
                "Fetch the weights again with script/download-weights."
            ) from None

    def weights(self, reading: Reading) -> Weights:
        """What `reading` brings of this folder's files; raises CheckpointError."""
        try:
            return reading.weights()
        except torch.OutOfMemoryError:
            raise
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise self._unusable(error) from None

    def detector(self, weights: Weights, reference: Reference) -> Sam3Model:
        """Return the half that finds concepts, with the vision backbone; raises CheckpointError."""
        config = copy.deepcopy(self.config)
        if reference.layer_norm_eps is not None:
            vision = getattr(config, "detector_config", config).vision_config
            vision.backbone_config.layer_norm_eps = reference.layer_norm_eps
        return self._load(Sam3Model, config, weights, DETECTOR_NAMES)

    def tracker(self, weights: Weights, detector: Sam3Model) -> Sam3TrackerModel:
        """The half that picks objects, on the backbone of `detector`; raises CheckpointError.

        Only its own neck, prompt encoder and mask decoder are built: the backbone is more than
        half of all weights and is the same module in memory. Only where `has_tracker`.
        """
        config = copy.deepcopy(self.config)
        # A backbone without layers is what transformers builds and throws away here.
        config.tracker_config.vision_config.backbone_config.num_hidden_layers = 0
        tracker = self._load(Sam3TrackerModel, config, weights, TRACKER_NAMES)
        tracker.vision_encoder.backbone = detector.vision_encoder.backbone
        return tracker

    def _load(
        self,
        kind: type[PreTrainedModel],
        config: Any,
        weights: Weights,
        prefixes: Mapping[str, str],
    ) -> Any:
        try:
            loaded = load(kind, config, weights, prefixes)
        except torch.OutOfMemoryError:
            raise
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise self._unusable(error) from None
        _refuse(self.folder, "missing", loaded.missing)
        _refuse(self.folder, "of another shape than config.json says", loaded.mismatched)
        _refuse(self.folder, "not finite (NaN or infinity)", loaded.not_finite)
        return loaded.model

    def _unusable(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"The weights in {self.folder} cannot be loaded: {_first_line(error)}. "
            "Fetch them again with script/download-weights."
        )


def _read_config(folder: Path) -> Any:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} holds no config.json; give SAM3_WEIGHTS a folder laid out as facebook/sam3, "
            "or fetch one with script/download-weights."
        )
    try:
        found = json.loads(path.read_text()).get("model_type")
    except (OSError, ValueError, AttributeError):
        raise CheckpointError(
            f"{path} is not a readable JSON object; fetch the weights again with "
            "script/download-weights."
        ) from None
    if found not in MODEL_TYPES:
        raise CheckpointError(
            f"{path} describes a model of type {shown(found)}, not SAM 3 "
            f"({' or '.join(MODEL_TYPES)}). Point SAM3_WEIGHTS at a SAM 3 checkpoint."
        )
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # whatever a damaged configuration makes transformers raise
        raise CheckpointError(
            f"{path} cannot be read as a SAM 3 configuration: {_first_line(error)}. "
            "Fetch the weights again with script/download-weights."
        ) from None


def _check_whole(file: Path) -> None:
    """Compare a safetensors file's length with what its header promises, without reading it.

    Layout: 8 bytes header length (little endian), JSON header, tensors at `data_offsets`.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(length)) if length < size else None
        if header is None:
            raise ValueError("header longer than the file")
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        promised = 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        raise CheckpointError(
            f"{file} is not a safetensors file or its start is damaged. "
            "Fetch it again with script/download-weights."
        ) from None
    if size != promised:
        raise CheckpointError(
            f"{file} has {size} bytes, but its header promises {promised}: the download is "
            "incomplete or damaged. Fetch it again with script/download-weights."
        )


def _refuse(folder: Path, fault: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise CheckpointError(
            f"{len(names)} weights in {folder} are {fault}: {', '.join(names[:NAMED])}{more}. "
            "Fetch the weights again with script/download-weights."
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
