"""The directories of a TIFF, read without Pillow and with bounds, before anything else looks at it.

Classic and BigTIFF. Values are read only when asked for; whatever lies outside of the file is an
ImageError, never an exception of another kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sam3_image.errors import ImageError

# Tags of one directory. Cameras write a hundred, microscopes a few dozen.
TAGS = 4096
# Numbers in a TIFF's directories, each a Python object for Pillow. 120 megapixels in tiles of
# 32 × 32 need 235,000; a fraction costs as much as ten plain numbers.
NUMBERS = 250_000
FRACTION_COST = 10

_SUBDIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability; Pillow reads these too
_TEXTS = (1, 2, 6, 7)  # types that Pillow keeps as bytes or text, however long
_FRACTIONS = (5, 10)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4"}
_INTEGERS |= {16: "u8", 17: "i8", 18: "u8"}


@dataclass(frozen=True)
class Field:
    """One field of a directory: its type, how many values, and where in the file they are."""

    kind: int
    count: int
    at: int


@dataclass(frozen=True)
class Directory:
    """One directory of a TIFF.

    fields: by tag. next: where the next page's directory starts, 0 after the last.
    """

    data: bytes
    order: Literal["little", "big"]
    fields: dict[int, Field]
    next: int

    @classmethod
    def first(cls, data: bytes) -> Directory:
        """Return the directory of the first page of a TIFF, by its header; raises ImageError."""
        order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
        big = _is_big(data)
        start = int.from_bytes(data[8:16] if big else data[4:8], order)
        found = cls.at(data, order, big, start)
        if len(found.fields) > TAGS:
            raise ImageError(
                f"The TIFF's directory has more than {TAGS:,} fields, which no camera or program "
                "writes: save it again, or as PNG."
            )
        return found

    @classmethod
    def at(cls, data: bytes, order: Literal["little", "big"], big: bool, start: int) -> Directory:
        """Return the directory at a position; fields outside of the file are left out.

        Of a BigTIFF's directory, at most the 65,535 fields that a classic one can have are read.
        """
        head, entry, wide = (8, 20, 8) if big else (2, 12, 4)

        def number(at: int, length: int) -> int:
            return int.from_bytes(data[at : at + length], order)

        count = min(number(start, head), 0xFFFF)
        fields = {}
        for at in range(start + head, start + head + entry * count, entry):
            if at + entry > len(data):
                break
            kind, length = number(at + 2, 2), number(at + 4, wide)
            inside = length * _SIZES.get(kind, 1) <= wide
            place = at + 4 + wide if inside else number(at + 4 + wide, wide)
            fields[number(at, 2)] = Field(kind, length, place)
        return cls(data, order, fields, number(start + head + entry * count, wide))

    @property
    def big(self) -> bool:
        """Whether it is one of a BigTIFF."""
        return _is_big(self.data)

    def sub(self, tag: int) -> Directory | None:
        """Return the directory that a tag points at, or None where there is no such tag."""
        place = self.number(tag, 0)
        return Directory.at(self.data, self.order, self.big, place) if place > 0 else None

    def numbers(self, tag: int) -> NDArray[np.int64]:
        """Return a tag's whole numbers; empty where it is missing or of another type.

        Raises ImageError where they lie outside of the file or are more than NUMBERS.
        """
        field = self.fields.get(tag)
        if field is None or field.kind not in _INTEGERS:
            return np.empty(0, dtype=np.int64)
        if field.count > NUMBERS:
            raise _too_many()
        dtype = np.dtype(_INTEGERS[field.kind]).newbyteorder("<" if self.order == "little" else ">")
        if field.at + field.count * dtype.itemsize > len(self.data):
            raise ImageError(
                f"The TIFF is cut off or damaged: tag {tag} points behind the end of the file. "
                "Send the whole file, or save it again."
            )
        found = np.frombuffer(self.data, dtype, field.count, field.at)
        if dtype.kind == "u" and dtype.itemsize == 8:
            # Offsets beyond the signed range are beyond every file.
            found = np.minimum(found, np.iinfo(np.int64).max)
        return found.astype(np.int64)

    def number(self, tag: int, default: int) -> int:
        """Return the first number of a tag, or the default where it has none."""
        found = self.numbers(tag)
        return int(found[0]) if found.size else default

    def content(self, tag: int, most: int | None = None) -> bytes:
        """Return the bytes of a tag's values, at most so many; b"" where it is missing."""
        field = self.fields.get(tag)
        if field is None:
            return b""
        length = field.count * _SIZES.get(field.kind, 1)
        length = length if most is None else min(length, most)
        return self.data[field.at : field.at + length]

    def cost(self, follow: tuple[int, ...] = _SUBDIRECTORIES) -> int:
        """Return how many numbers Pillow reads of this directory and of those below it."""
        total = 0
        for field in self.fields.values():
            if field.kind not in _TEXTS:
                # More than the file can hold is not read at all.
                length = min(field.count, len(self.data))
                total += length * (FRACTION_COST if field.kind in _FRACTIONS else 1)
        for tag in follow:  # each is followed once, so that a loop ends
            if (below := self.sub(tag)) is not None:
                total += below.cost(tuple(other for other in follow if other != tag))
        return total


def check_tiff(directory: Directory) -> None:
    """Raise ImageError for a TIFF whose directories hold more numbers than its image can need."""
    if directory.cost() > NUMBERS:
        raise _too_many()


def _too_many() -> ImageError:
    return ImageError(
        f"The TIFF has more than {NUMBERS:,} numbers beside its pixels, from very small strips or "
        "tiles or from a damaged directory: save it again, or as PNG."
    )


def _is_big(data: bytes) -> bool:
    return data[2:4] in (b"+\x00", b"\x00+")
