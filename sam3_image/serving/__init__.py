"""One process that answers requests: settings, stages, log, memory, temporary files."""

from sam3_image.serving.cancelation import survive_cancelation
from sam3_image.serving.instances import Instances
from sam3_image.serving.sam import Sam, load
from sam3_image.serving.service import Result, Service
from sam3_image.serving.settings import Settings

__all__ = ["Instances", "Result", "Sam", "Service", "Settings", "load", "survive_cancelation"]
