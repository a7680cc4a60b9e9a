"""One process for many callers: waiting line, device thread, memory, files, log, health."""

from sam3_image.serving.answer import Result
from sam3_image.serving.instances import Instances
from sam3_image.serving.keeper import Keeper
from sam3_image.serving.queue import CanceledError, Job
from sam3_image.serving.sam import Sam, load
from sam3_image.serving.service import Service
from sam3_image.serving.settings import Settings
from sam3_image.serving.under_cog import errors_for_cog, take_over_process

__all__ = [
    "CanceledError",
    "Instances",
    "Job",
    "Keeper",
    "Result",
    "Sam",
    "Service",
    "Settings",
    "errors_for_cog",
    "load",
    "take_over_process",
]
