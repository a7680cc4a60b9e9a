"""Weights: where they are, that they are whole and SAM 3's, and onto the device in one dtype.

The folder is laid out as `facebook/sam3`: `config.json` (a `Sam3VideoConfig`), tokenizer files and
safetensors with the keys `detector_model.*`, `tracker_neck.*` and `tracker_model.*`. Or it holds
the detector alone, as `Sam3Model.save_pretrained` writes it. Pickles are never opened. transformers
only warns about missing weights and fills them with noise; here every doubt is an error, raised
within seconds.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, CLIPTokenizer, PreTrainedModel, Sam3TrackerModel

from sam3_image.errors import CheckpointError, shown
from sam3_image.model.architecture import DETECTORS, Architecture
from sam3_image.model.compatibility import Compatibility
from sam3_image.model.transformers_adapter import install_casts, install_host_shapes
from sam3_image.model.weights.loading import Weights, WeightsLoader, load, weight_files
from sam3_image.model.weights.source import conversion
from sam3_image.model.weights.tensor_file import read_entries
from sam3_image.model.weights.tokenizer import first_line, read_tokenizer
from sam3_image.shipped import command

# How many faulty weights an error names.
NAMED = 3
# How the names of each half begin in a checkpoint of both → in its class. A checkpoint of the
# detector alone has the names of the class.
DETECTOR_NAMES = {"detector_model.": ""}
TRACKER_NAMES = {
    "detector_model.vision_encoder.backbone.": "vision_encoder.backbone.",
    "tracker_neck.": "vision_encoder.neck.",
    # transformers writes it twice for a model that was not itself loaded from a checkpoint.
    "tracker_model.tracker_model.": "",
    "tracker_model.": "",
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights that was found to be complete on disk; nothing is loaded yet."""

    folder: Path
    config: Any  # Sam3VideoConfig, Sam3Config or Sam3LiteTextConfig

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Check configuration and files of `folder`; raises CheckpointError."""
        files = weight_files(folder)
        pickles = sorted([*folder.glob("*.pt"), *folder.glob("*.pth")])
        if pickles and not files:
            raise CheckpointError(
                f"There is no .safetensors file in {folder}, and pickles are never loaded. "
                f"{conversion(pickles[0])}"
            )
        config = _read_config(folder)
        if not files:
            raise CheckpointError(
                f"There is no .safetensors file in {folder}. Fetch the weights again with "
                f"{command('download-weights')} (pickled .pt and .bin files are never loaded)."
            )
        for file in files:
            read_entries(file)
        return cls(folder=folder, config=config)

    @property
    def files(self) -> list[Path]:
        """The safetensors files, in order."""
        return weight_files(self.folder)

    @cached_property
    def architecture(self) -> Architecture:
        """What this checkpoint is, among those of the family; raises CheckpointError."""
        return Architecture.of(self.config, self.tokenizer().model_max_length)

    @property
    def bytes_on_disk(self) -> int:
        """Size of the safetensors files."""
        return sum(file.stat().st_size for file in self.files)

    def tokenizer(self) -> CLIPTokenizer:
        """Return the CLIP tokenizer of the text encoder; raises CheckpointError."""
        return read_tokenizer(self.folder)

    def weights(self, reading: WeightsLoader) -> Weights:
        """Wait for the tensors of this folder's files; raises CheckpointError."""
        try:
            return reading.weights()
        except torch.OutOfMemoryError:
            raise
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise self._unusable(error) from None

    def detector(self, weights: Weights, reference: Compatibility) -> Any:
        """Return the half that finds concepts, with the vision backbone.

        A `Sam3Model`, or what else `architecture` says. Raises CheckpointError.
        """
        config = copy.deepcopy(self.config)
        if reference.layer_norm_eps is not None:
            vision = getattr(config, "detector_config", config).vision_config
            vision.backbone_config.layer_norm_eps = reference.layer_norm_eps
        detector = self._load(self.architecture.detector, config, weights, DETECTOR_NAMES)
        install_casts(detector, weights.placement.dtype)
        install_host_shapes(detector)
        return detector

    def tracker(self, weights: Weights, detector: Any) -> Sam3TrackerModel:
        """Return the half that picks objects, on the backbone of `detector`.

        Only its own neck, prompt encoder and mask decoder are built: the backbone is more than
        half of all weights and is the same module in memory. Only where `architecture.has_tracker`.
        Raises CheckpointError.
        """
        config = copy.deepcopy(self.config)
        # A backbone without layers is what transformers builds and throws away here.
        config.tracker_config.vision_config.backbone_config.num_hidden_layers = 0
        tracker = self._load(Sam3TrackerModel, config, weights, TRACKER_NAMES)
        install_casts(tracker, weights.placement.dtype)
        tracker.vision_encoder.backbone = detector.vision_encoder.backbone
        head = tracker.mask_decoder.iou_prediction_head
        head.sigmoid_output = self.architecture.iou_is_sigmoid
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
            f"The weights in {self.folder} cannot be loaded: {first_line(error)}. "
            f"Fetch them again with {command('download-weights')}."
        )


def _read_config(folder: Path) -> Any:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} holds no config.json; give SAM3_WEIGHTS a folder laid out as facebook/sam3, "
            f"or fetch one with {command('download-weights')}."
        )
    return read_config(path)


def read_config(path: Path) -> Any:
    """Read a configuration of the SAM 3 family; raises CheckpointError."""
    try:
        found = json.loads(path.read_text()).get("model_type")
    except (OSError, ValueError, AttributeError):
        raise CheckpointError(
            f"{path} is not a readable JSON object; fetch the weights again with "
            f"{command('download-weights')}."
        ) from None
    if found not in DETECTORS:
        raise CheckpointError(
            f"{path} describes a model of type {shown(found)}, not SAM 3 "
            f"({', '.join(DETECTORS)}). Point SAM3_WEIGHTS at a SAM 3 checkpoint."
        )
    try:
        return AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:  # whatever a damaged configuration makes transformers raise
        raise CheckpointError(
            f"{path} cannot be read as a SAM 3 configuration: {first_line(error)}. "
            f"Fetch the weights again with {command('download-weights')}."
        ) from None


def _refuse(folder: Path, fault: str, names: list[str]) -> None:
    if names:
        raise CheckpointError(
            f"{len(names)} weights in {folder} are {fault}: {listed(names)}. "
            f"Fetch the weights again with {command('download-weights')}."
        )


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Return the first `most` names and how many more there are, for use in messages."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
