"""What a decoder's exception means to the person who sent the file."""

from __future__ import annotations

import re

from PIL.Image import DecompressionBombError

from sam3_image.errors import ImageError

# Decoders that say so know the format but not this kind of it; the file is not damaged.
_NOT_SUPPORTED = re.compile(
    r"^(unsupported|unknown|cannot handle|not a supported)|not supported",
    re.IGNORECASE,
)
# Messages about the decoder's own code, which say nothing about the file.
_MEANINGLESS = re.compile(
    r"driver|index out of range|requires a buffer|Plugin|\bb['\"]|^decoder error|^\S*$"
)
_MEANINGFUL_TYPES = (OSError, SyntaxError, ValueError, EOFError)


def explain(name: str, error: Exception) -> ImageError:
    """Return the error for a file that a decoder gave up on.

    name: of its format. error: what the decoder raised.
    """
    if isinstance(error, DecompressionBombError):
        return ImageError(
            f"The {name} announces far more pixels than it shows: save it again, or send PNG."
        )
    cause = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())[:80]
    if not isinstance(error, _MEANINGFUL_TYPES) or _MEANINGLESS.search(cause):
        cause = ""
    if cause and _NOT_SUPPORTED.search(cause):
        return ImageError(
            f"The {name} is of a kind that is not supported ({cause}): save it as PNG or JPEG."
        )
    because = f" ({cause})" if cause else ""
    return ImageError(
        f"The {name} is cut off or damaged{because}: send the whole file, or save it again."
    )
