"""The one family of errors that a user is meant to read.

Cog answers a failed prediction with ``ClassName: message``, so the message is the user
interface: one line that says what was wrong, the value, what is allowed and what to do.
"""

from __future__ import annotations


class UserError(Exception):
    """Base of all errors whose message is written for the person who made the request."""


class InputError(UserError):
    """A value in the request is not one that `predict()` accepts."""


class ImageError(InputError):
    """The image file cannot be used: no image, damaged, refused format, or over a limit."""


class CheckpointError(UserError):
    """The weights cannot be found, fetched or trusted; raised by `setup()`."""


class DeviceError(UserError):
    """The compute device or dtype asked for is not there or does not work."""


class MemoryLimitError(UserError):
    """One prediction needed more memory than there is; the next one can still work."""


class OutputError(UserError):
    """The result could not be written: full disk, read-only or vanished folder."""


def shown(value: object, limit: int = 60) -> str:
    """`repr(value)` on one line, shortened to `limit` characters, for use inside messages."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
