"""One process for many callers: a scheduler, a budget of memory, a workspace, a service."""

from sam3_image.serving.cog_adapter import errors_for_cog, require_gpu, take_over_process
from sam3_image.serving.memory import MemoryBudget, within_memory
from sam3_image.serving.scheduler import CanceledError, Job
from sam3_image.serving.service import FileResult, Service

__all__ = [
    "CanceledError",
    "FileResult",
    "Job",
    "MemoryBudget",
    "Service",
    "errors_for_cog",
    "require_gpu",
    "take_over_process",
    "within_memory",
]
