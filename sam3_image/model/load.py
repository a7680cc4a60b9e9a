"""Settings → a model that is ready to answer."""

from __future__ import annotations

import getpass
import os
import warnings
from typing import TYPE_CHECKING

import torch

from sam3_image.model.compatibility import Compatibility
from sam3_image.model.device import Placement, missing_gpu
from sam3_image.model.weights.loading import WeightsLoader, weight_files
from sam3_image.model.weights.source import WeightsSource, locate
from sam3_image.report import Report
from sam3_image.settings import Settings

if TYPE_CHECKING:
    from sam3_image.model.segmenter import Segmenter


def load_segmenter(settings: Settings, report: Report) -> Segmenter:
    """Find, check and load the weights, and say in the log what was loaded.

    Raises UserError (CheckpointError, DeviceError) with one line that says what to do. Warns where
    the CPU takes the place of a GPU that torch was built for.
    """
    missing = missing_gpu(settings)
    if missing:  # not by the log, which a program may not show
        warnings.warn(missing, RuntimeWarning, stacklevel=2)
    source, placement = WeightsSource.of(settings), Placement.of(settings)
    compatibility = Compatibility.of(settings)
    with report.stage("setup"):
        folder = locate(source)
        loader = WeightsLoader(weight_files(folder), placement)
        _name_user()
        # Imported only now: transformers takes seconds, in which the weights are read.
        from sam3_image.model.segmenter import CacheBudget, Segmenter
        from sam3_image.model.weights.checkpoint import Checkpoint

        checkpoint = Checkpoint.open(folder)
        report.say(
            f"Loading {folder} ({checkpoint.bytes_on_disk / 1e6:.0f} MB) onto {placement}, "
            f"answering as {compatibility}"
        )
        budget = CacheBudget(features=settings.kept_features)
        segmenter = Segmenter(checkpoint, placement, budget, loader, compatibility)
        if placement.device.type != "cpu":
            _use_float32_as_asked(placement)
            segmenter.warm_up()
    report.say(str(segmenter.architecture))
    advice = placement.advice()
    if advice:
        report.say(advice)
    if source.is_demo:
        report.say(
            "This is the demo checkpoint: it knows drawn shapes ('red circle', 'star'), "
            "not photographs."
        )
    report.say(f"Ready after {report.metrics['timing.setup']:.1f} s")
    return segmenter


def _use_float32_as_asked(placement: Placement) -> None:
    """Keep cuDNN, for the whole process, from rounding float32 to TF32, which has ten bits.

    torch lets it do so in convolutions, though not in matrix products. Whoever sets
    SAM3_DTYPE=float32 on a GPU wants the answers of float32.
    """
    if placement.dtype is torch.float32:
        torch.backends.cudnn.allow_tf32 = False


def _name_user() -> None:
    """Give this process a user name where its uid has none, as under Kubernetes' `runAsUser`.

    torch asks for it to name its compile cache when torchvision or transformers is imported, and
    fails with a KeyError without one.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
