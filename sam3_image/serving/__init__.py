"""One process that answers requests: settings, stages, log, memory, temporary files."""

from sam3_image.serving.cancelation import survive_cancelation
from sam3_image.serving.service import Result, Service, Settings

__all__ = ["Result", "Service", "Settings", "survive_cancelation"]
