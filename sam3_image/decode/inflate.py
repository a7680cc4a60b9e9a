"""Deflated data, decompressed a part at a time, so that it is never whole in memory."""

from __future__ import annotations

from collections.abc import Iterator

from isal import isal_zlib

STEP = 1 << 16  # bytes; what waits inside the decompressor is copied again and again


class Inflated:
    """The decompressed bytes of a zlib stream, read in parts of any length."""

    def __init__(self, compressed: Iterator[memoryview]) -> None:
        """compressed: the stream in pieces, each cut into small ones here."""
        self._inflate = isal_zlib.decompressobj()
        self._compressed = (
            piece[start : start + STEP]
            for piece in compressed
            for start in range(0, len(piece), STEP)
        )

    def read(self, length: int) -> bytes:
        """The next bytes; fewer at the end. Raises ValueError for what is no zlib stream."""
        parts, missing = [], length
        while missing and not self._inflate.eof:
            waiting = self._inflate.unconsumed_tail or next(self._compressed, b"")
            try:
                part = self._inflate.decompress(waiting, missing)
            except isal_zlib.error as error:  # type: ignore[misc]  # an instance, say its stubs
                raise ValueError(str(error)) from None
            if not waiting and not part:  # for it also keeps what it could not give before
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)
