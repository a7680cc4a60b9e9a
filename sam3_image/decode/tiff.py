"""TIFFs that Pillow cannot show: more than 8 bits, signed, float, or several bands.

libtiff inside Pillow only decompresses. A run of strips or tiles is handed to it as a small TIFF
of its own that claims to be 8-bit gray, one byte a pixel; what the bytes mean is worked out here.
Nothing is allocated before the directory has been checked and the memory has been claimed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from sam3_image.decode.inflate import Inflated
from sam3_image.decode.tiff_directory import Directory
from sam3_image.decode.value_range import Samples, nodata_of
from sam3_image.errors import ImageError, shown

SAMPLES = 64  # bands of one pixel
# Decompressed bytes that are in work at a time, where strips and tiles are not larger themselves.
RUN_BYTES = 8_000_000
# So many of them are computed with at a time: they stay in the cache of a core.
PART_BYTES = 500_000
# Of packed samples less, because each bit becomes a byte on the way.
PACKED_BYTES = 500_000
# Memory for a run and what is computed from it: the pieces, Pillow's copy, bytes, predictor.
WORK_BYTES = 6 * RUN_BYTES

RAW = 1
# What libtiff decompresses without interpreting it: LZW, deflate, PackBits, deflate, LZMA, zstd.
COMPRESSIONS = (RAW, 5, 8, 32773, 32946, 34925, 50000)
_DEFLATE = (8, 32946)
# For refusals. The first group is read where the image has 8 bits.
NAMES = {
    2: "CCITT RLE",
    3: "CCITT fax 3",
    4: "CCITT fax 4",
    6: "old-style JPEG",
    7: "JPEG",
    32771: "word-aligned RLE",
    32766: "NeXT RLE",
    32809: "ThunderScan",
    32895: "CT RLE",
    32908: "Pixar",
    32909: "Pixar Log",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI Log",
    34677: "SGI Log 24",
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG (DNG)",
    34926: "zstd (old number)",
    34927: "WebP (old number)",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
# Those for which Pillow's libtiff has no decoder.
_NO_DECODER = frozenset(NAMES) - {2, 3, 4, 6, 7, 32771, 32809, 34676, 34677}

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_FILL_ORDER, _STRIP_OFFSETS, _ORIENTATION, _SAMPLES = 266, 273, 274, 277
_ROWS, _STRIP_COUNTS, _PLANAR, _PREDICTOR = 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _ICC, _NODATA = 338, 339, 34675, 42113
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2
_ASSOCIATED, _UNASSOCIATED, _COREL_ALPHA = 1, 2, 999
_FLOAT = 3

_SMALL_DIRECTORY = 8  # where it begins in the small TIFFs

_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


@dataclass(frozen=True)
class TiffLayout:
    """How the first page of a TIFF is stored; checked against the file before it is made.

    size: (height, width) as stored, before the orientation is applied.
    dtype: of a sample as it is stored, with its byte order; packed samples are in uint16.
    bits: of one sample. samples: per pixel. bands: which of them are shown, one or three.
    alpha: which sample is alpha, or None. associated: the bands are multiplied by it.
    piece: (height, width) of a tile, or of a strip.
    tiled: pieces are tiles, which are whole even at the image's edge.
    planar: each piece holds one sample.
    offsets, counts: of the pieces in the file, in bytes; sample by sample where planar.
    """

    data: bytes
    size: tuple[int, int]
    dtype: np.dtype[Any]
    bits: int
    samples: int
    bands: tuple[int, ...]
    alpha: int | None
    associated: bool
    white_is_zero: bool
    compression: int
    predictor: int
    reversed_bits: bool
    piece: tuple[int, int]
    tiled: bool
    planar: bool
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    nodata: float | None
    orientation: int
    icc: bytes | None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a piece, decompressed."""
        return -(-self.piece[1] * (1 if self.planar else self.samples) * self.bits // 8)

    @property
    def memory(self) -> int:
        """Bytes that `read_samples` takes at its peak, the samples that it returns included."""
        kept = (len(self.bands) + (self.alpha is not None)) * self.dtype.itemsize
        work = WORK_BYTES
        if self.compression != RAW:
            # libtiff and Pillow hold a piece each, beside a copy of what it is made from.
            work += 2 * self.piece[0] * self.row_bytes + int(self.counts.max(initial=0))
        return self.size[0] * self.size[1] * kept + work

    def notes(self) -> list[str]:
        """What the log should say: which bands are shown, where there are more."""
        if self.samples == len(self.bands) + (self.alpha is not None):
            return []
        which = "the first is" if len(self.bands) == 1 else "the first three are"
        return [f"Bands: {self.samples}; {which} shown"]


def check_readable(directory: Directory) -> None:
    """Raise ImageError that names a compression for which there is no decoder."""
    compression = directory.number(_COMPRESSION, RAW)
    if compression in _NO_DECODER:
        raise _not_supported(f"compressed with {NAMES[compression]}")
    if compression not in COMPRESSIONS and compression not in NAMES:
        raise _not_supported(f"compressed in an unknown way (number {compression})")


def check_header(directory: Directory) -> None:
    """Raise ImageError for a big-endian BigTIFF, whose header Pillow takes for that of a TIFF."""
    if directory.big and directory.order == "big":
        raise _not_supported("that is a big-endian BigTIFF of other pixels than gray or RGB")


def stored_size(directory: Directory) -> tuple[int, int]:
    """Return the (height, width) of the first page as stored; 0 where it does not say."""
    return directory.number(_HEIGHT, 0), directory.number(_WIDTH, 0)


def tile_size(directory: Directory) -> tuple[int, int] | None:
    """Return the (height, width) of its tiles, or None where it is stored in strips."""
    height, width = directory.number(_TILE_HEIGHT, 0), directory.number(_TILE_WIDTH, 0)
    return (height, width) if width else None


def needs_own_reader(directory: Directory) -> bool:
    """Whether the first page is for `read_samples` rather than for Pillow.

    True for gray and RGB of more than 8 bits, signed or float samples, in a big-endian BigTIFF,
    which Pillow cannot read, and for more bands than Pillow knows; other 8-bit RGB, palettes, CMYK,
    YCbCr and CIELAB stay with Pillow.
    """
    photometric = directory.number(_PHOTOMETRIC, _MIN_IS_WHITE)
    if photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB):
        return False
    bits = directory.number(_BITS, 1)
    formats = directory.numbers(_SAMPLE_FORMAT)
    samples = directory.number(_SAMPLES, 1)
    if bits > 8 or (bits == 8 and formats.size and formats[0] in (2, _FLOAT)):
        return True
    if bits != 8 or directory.number(_COMPRESSION, RAW) not in COMPRESSIONS:
        return False
    if directory.big and directory.order == "big":
        return True
    extra = directory.numbers(_EXTRA_SAMPLES).tolist()
    if photometric == _RGB:
        usual = len(extra) == samples - 3 <= 3 and extra[:1] in ([], [0], [1], [2])
        usual = usual and not any(extra[1:])
        return samples > 3 and not usual and not (samples == 4 and extra in ([], [_COREL_ALPHA]))
    gray_alpha = samples == 2 and extra in ([0], [_ASSOCIATED], [_UNASSOCIATED])
    with_pillow = photometric == _MIN_IS_BLACK and directory.number(_PLANAR, 1) == 1
    return samples > 1 and not (gray_alpha and with_pillow)


def read_layout(directory: Directory, data: bytes) -> TiffLayout:
    """Return how the first page is stored; raises ImageError for what is not supported."""
    height, width = stored_size(directory)
    samples = directory.number(_SAMPLES, 1)
    if not 1 <= samples <= SAMPLES:
        raise _not_supported(f"of {samples:,} bands (at most {SAMPLES} are)")
    compression = directory.number(_COMPRESSION, RAW)
    photometric = directory.number(_PHOTOMETRIC, _MIN_IS_WHITE)
    bits, dtype = _sample_type(directory, samples)
    if compression not in COMPRESSIONS:
        raise _not_supported(
            f"of {samples} × {bits} bits compressed with {NAMES.get(compression, compression)}"
        )
    bands, alpha, associated = _bands(directory, samples, photometric)
    tile = tile_size(directory)
    tiled = tile is not None
    piece = tile or (min(directory.number(_ROWS, height), height), width)
    if min(height, width, *piece) < 1:
        raise _damaged("a side of no pixels")
    layout = TiffLayout(
        data=data,
        size=(height, width),
        dtype=dtype,
        bits=bits,
        samples=samples,
        bands=bands,
        alpha=alpha,
        associated=associated,
        white_is_zero=photometric == _MIN_IS_WHITE,
        compression=compression,
        predictor=_predictor(directory, compression, bits, dtype),
        reversed_bits=directory.number(_FILL_ORDER, 1) == 2,
        piece=piece,
        tiled=tiled,
        planar=directory.number(_PLANAR, 1) == 2 and samples > 1,
        offsets=directory.numbers(_TILE_OFFSETS if tiled else _STRIP_OFFSETS),
        counts=directory.numbers(_TILE_COUNTS if tiled else _STRIP_COUNTS),
        nodata=_nodata(directory),
        orientation=directory.number(_ORIENTATION, 1),
        icc=directory.content(_ICC) or None,
    )
    return _check_pieces(layout)


def read_samples(layout: TiffLayout) -> Samples:
    """Return the decoded samples, as stored: neither upright nor in 8 bits.

    The memory of `layout.memory` must be there. Raises ImageError for damaged data.
    """
    shape = layout.size
    kept = layout.dtype.newbyteorder("=")
    values = np.zeros((*shape, len(layout.bands)), kept)
    if not layout.counts.all():  # a sparse file: what it leaves out is nodata
        values += np.array(nodata_of(layout.nodata, kept) or 0, kept)
    alpha = None if layout.alpha is None else np.zeros(shape, kept)
    # Planes of the file with the place of each among the values, or all of them in one.
    planes = list(enumerate(layout.bands)) if layout.planar else [(slice(None), 0)]
    bands = 0 if layout.planar else _as_slice(layout.bands)
    for place, plane in planes:
        for rows, columns, block in _blocks(layout, plane):
            values[rows, columns, place] = block[..., bands]
            if alpha is not None and not layout.planar:
                alpha[rows, columns] = block[..., layout.alpha]
    if alpha is not None and layout.alpha is not None and layout.planar:
        for rows, columns, block in _blocks(layout, layout.alpha):
            alpha[rows, columns] = block[..., 0]
    return Samples(
        values,
        layout.bits,
        alpha,
        layout.associated,
        layout.white_is_zero,
        layout.nodata,
    )


def _as_slice(bands: tuple[int, ...]) -> slice | list[int]:
    """Return an index of these bands: a slice, which copies nothing, where they are the first."""
    first = slice(len(bands))
    return first if bands == tuple(range(len(bands))) else list(bands)


def _sample_type(directory: Directory, samples: int) -> tuple[int, np.dtype[Any]]:
    """Bits of a sample, and its type as it is stored; raises ImageError where they differ."""
    bits, formats = directory.numbers(_BITS), directory.numbers(_SAMPLE_FORMAT)
    for found, what in ((bits, "bits"), (formats, "kinds of numbers")):
        if found.size and (found[:samples] != found[0]).any():
            raise _not_supported(f"of bands with different {what} ({_list(found)})")
    size, form = int(bits[0]) if bits.size else 1, int(formats[0]) if formats.size else 1
    order = "<" if directory.order == "little" else ">"
    if form in (1, 4) and 8 < size < 16:
        return size, np.dtype(np.uint16)
    kinds = {1: "u", 2: "i", _FLOAT: "f", 4: "u"}  # 4: undefined, as integers
    if form not in kinds or size not in (8, 16, 32, 64) or (form == _FLOAT and size == 8):
        name = {2: "signed integer", _FLOAT: "float", 5: "complex integer", 6: "complex"}
        raise _not_supported(f"of {size}-bit {name.get(form, 'integer')} samples")
    return size, np.dtype(f"{order}{kinds[form]}{size // 8}")


def _bands(
    directory: Directory, samples: int, photometric: int
) -> tuple[tuple[int, ...], int | None, bool]:
    """Which samples are shown, which one is alpha, and whether it is associated."""
    colors = 3 if photometric == _RGB else 1
    extra = directory.numbers(_EXTRA_SAMPLES).tolist()
    if samples < colors:
        raise _damaged(f"RGB of {samples} bands")
    if photometric == _RGB and samples == 4 and not extra:
        extra = [_UNASSOCIATED]  # as viewers read files without the tag
    extra = extra[: samples - colors]
    first_extra = samples - len(extra)
    alpha, associated = None, False
    for place, meaning in enumerate(extra, first_extra):
        if meaning in (_ASSOCIATED, _UNASSOCIATED, _COREL_ALPHA):
            alpha, associated = place, meaning == _ASSOCIATED
            break
    shown_bands = [band for band in range(samples) if band != alpha]
    return tuple(shown_bands[:3] if len(shown_bands) >= 3 else shown_bands[:1]), alpha, associated


def _predictor(directory: Directory, compression: int, bits: int, dtype: np.dtype[Any]) -> int:
    """1 none, 2 differences of integers, 3 differences of the bytes of floats."""
    predictor = directory.number(_PREDICTOR, 1)
    if compression in (RAW, 32773):  # libtiff ignores it there
        return 1
    possible = {1: True, 2: bits in (8, 16, 32, 64), 3: dtype.kind == "f"}
    if not possible.get(predictor, False):
        raise _not_supported(f"of {bits} bits with predictor {predictor}")
    return predictor


def _nodata(directory: Directory) -> float | None:
    """GDAL's value for "no measurement", a number written as text; None for junk."""
    try:
        return float(directory.content(_NODATA, 64).split(b"\0")[0].decode("ascii"))
    except ValueError:
        return None


def _check_pieces(layout: TiffLayout) -> TiffLayout:
    """Return the layout with the counts that its pieces need; raises ImageError for a bad one."""
    (height, width), (tall, wide) = layout.size, layout.piece
    across = -(-width // wide)
    down = -(-height // tall)
    needed = across * down * (layout.samples if layout.planar else 1)
    offsets, counts = layout.offsets[:needed], layout.counts[:needed]
    kind = "tiles" if layout.tiled else "strips"
    if not counts.any() and offsets.size == needed:
        # Some old programs left the counts out.
        if layout.compression == RAW:
            heights = np.full(down, tall) if layout.tiled else _strip_heights(height, tall)
            counts = np.tile(np.repeat(heights, across), needed // (across * down))
            counts = counts * layout.row_bytes
        elif needed == 1:
            counts = np.maximum(len(layout.data) - offsets, 0)
    if offsets.size < needed or counts.size < needed:
        raise _damaged(f"{min(offsets.size, counts.size):,} of {needed:,} {kind} are listed")
    if (offsets < 0).any() or (counts < 0).any() or (offsets > len(layout.data)).any():
        raise _damaged(f"{kind} lie behind the end of the file")
    if (counts > len(layout.data) - offsets).any():
        raise _damaged(f"{kind} reach behind the end of the file")
    # The same bytes shown many times over would cost memory without end.
    if int(counts.sum()) > len(layout.data):
        raise _damaged(f"its {kind} overlap")
    changed = dict(layout.__dict__, offsets=offsets, counts=counts)
    return TiffLayout(**changed)


def _strip_heights(height: int, tall: int) -> NDArray[np.int64]:
    """Rows of each strip; the last may be shorter."""
    tops = np.arange(0, height, tall)
    return np.minimum(tall, height - tops)


def _blocks(layout: TiffLayout, plane: int) -> Iterator[tuple[slice, slice, NDArray[Any]]]:
    """Yield (rows, columns, block) of one plane; block is (h, w, samples), cut at the image's edge.

    Blocks are about RUN_BYTES at most. Pieces that the file leaves out, as sparse files do, are
    left out here.
    """
    (height, width), (tall, wide) = layout.size, layout.piece
    across, down = -(-width // wide), -(-height // tall)
    first = plane * across * down
    read = _raw if layout.compression == RAW else _decompressed
    part_rows = max(1, PART_BYTES // layout.row_bytes)
    # Strips are pieces below each other; tiles are taken row by row.
    for row in range(down if layout.tiled else 1):
        start = first + row * across
        for pieces in _runs(layout, start, start + (across if layout.tiled else down)):
            count, number = len(pieces), pieces.start - start
            top, left = (row * tall, number * wide) if layout.tiled else (number * tall, 0)
            rows = tall * count if layout.tiled else min(height - top, tall * count)
            beside = layout.tiled and count > 1
            for part in read(layout, pieces, rows, rows if beside else part_rows):
                block = _values(layout, part)
                if beside:  # tiles under each other → next to each other
                    tiles = block.reshape(count, tall, wide, -1).swapaxes(0, 1)
                    block = tiles.reshape(tall, count * wide, -1)
                block = block[: height - top, : width - left]
                yield (
                    slice(top, top + block.shape[0]),
                    slice(left, left + block.shape[1]),
                    block,
                )
                top += len(part)
                if top >= height:
                    break


def _runs(layout: TiffLayout, start: int, stop: int) -> Iterator[range]:
    """Yield runs of consecutive stored pieces of RUN_BYTES at most, or of one larger piece."""
    fits = max(1, RUN_BYTES // (layout.piece[0] * layout.row_bytes))
    while start < stop:
        end = start
        while end < min(stop, start + fits) and layout.counts[end]:
            end += 1
        if end > start:
            yield range(start, end)
        start = max(end, start + 1)


def _raw(layout: TiffLayout, pieces: range, rows: int, at_once: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the rows of uncompressed pieces, stacked, so many at once: (h, row_bytes) uint8."""
    stored, left = [], rows
    for piece in pieces:
        height = min(layout.piece[0], left)
        left -= height
        length = height * layout.row_bytes
        if length > layout.counts[piece]:
            raise _damaged("its data ends too early")
        start = int(layout.offsets[piece])
        stored.append(np.frombuffer(layout.data, np.uint8, length, start))
    joined = (stored[0] if len(stored) == 1 else np.concatenate(stored)).reshape(rows, -1)
    for start in range(0, rows, at_once):
        part = joined[start : start + at_once]
        if layout.reversed_bits:
            part = np.frombuffer(_REVERSED_BITS, np.uint8)[part]
        yield part


def _decompressed(
    layout: TiffLayout, pieces: range, rows: int, at_once: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the same of compressed pieces, by libtiff; of one large deflated piece without it."""
    large = len(pieces) == 1 and rows * layout.row_bytes > RUN_BYTES
    if large and layout.compression in _DEFLATE and not layout.reversed_bits:
        yield from _inflated(layout, pieces.start, rows, at_once)
        return
    found = np.empty((rows, layout.row_bytes), np.uint8)
    # libtiff writes into the array, which Pillow takes for the pixels of a gray image.
    image = Pillow.frombuffer("L", (layout.row_bytes, rows), found, "raw", "L", 0, 1)
    arguments = ("L", 0, _SMALL_DIRECTORY)  # raw mode; no file; where the directory is
    try:
        image.frombytes(_small_tiff(layout, pieces, rows), "libtiff", arguments)
    except ValueError:
        raise _damaged("its data cannot be decompressed") from None
    for start in range(0, rows, at_once):
        yield found[start : start + at_once]


def _inflated(
    layout: TiffLayout, piece: int, rows: int, at_once: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the same of one deflated piece, of which libtiff would hold all at once, and twice."""
    begin, length = int(layout.offsets[piece]), int(layout.counts[piece])
    stream = Inflated(iter([memoryview(layout.data)[begin : begin + length]]))
    for start in range(0, rows, at_once):
        wanted = min(at_once, rows - start) * layout.row_bytes
        try:
            part = stream.read(wanted)
        except ValueError:
            part = b""
        if len(part) < wanted:
            raise _damaged("its data cannot be decompressed")
        yield np.frombuffer(part, np.uint8).reshape(-1, layout.row_bytes)


def _small_tiff(layout: TiffLayout, pieces: range, rows: int) -> bytes:
    """Return a TIFF of these pieces under each other, as gray of row_bytes × rows pixels."""
    count = len(pieces)
    lengths = [int(layout.counts[piece]) for piece in pieces]
    fields = 9
    lists = _SMALL_DIRECTORY + 2 + 12 * fields + 4
    start = lists + 8 * count
    starts = [start]
    for length in lengths[:-1]:
        starts.append(starts[-1] + length)
    inline = count == 1  # one number stands in the field itself
    table = [
        (_WIDTH, 1, layout.row_bytes),
        (_HEIGHT, 1, rows),
        (_BITS, 1, 8),
        (_COMPRESSION, 1, layout.compression),
        (_PHOTOMETRIC, 1, _MIN_IS_BLACK),
        (_STRIP_OFFSETS, count, starts[0] if inline else lists),
        (_SAMPLES, 1, 1),
        (_ROWS, 1, layout.piece[0]),
        (_STRIP_COUNTS, count, lengths[0] if inline else lists + 4 * count),
    ]
    out: list[bytes | memoryview] = [b"II*\0", struct.pack("<IH", _SMALL_DIRECTORY, fields)]
    out += [struct.pack("<HHII", tag, 4, number, value) for tag, number, value in table]
    out.append(struct.pack("<I", 0))
    out.append(struct.pack(f"<{2 * count}I", *starts, *lengths))
    for piece, length in zip(pieces, lengths, strict=True):
        begin = int(layout.offsets[piece])
        stored = memoryview(layout.data)[begin : begin + length]
        out.append(bytes(stored).translate(_REVERSED_BITS) if layout.reversed_bits else stored)
    return b"".join(out)


def _values(layout: TiffLayout, rows: NDArray[np.uint8]) -> NDArray[Any]:
    """(h, row_bytes) decompressed bytes → (h, w, samples) in native byte order."""
    samples = 1 if layout.planar else layout.samples
    if layout.bits != 8 * layout.dtype.itemsize:
        return _unpacked(layout, rows, samples)
    native = layout.dtype.newbyteorder("=")
    if layout.predictor == 3:
        planes = rows.reshape(len(rows), -1, samples)
        planes = np.cumsum(planes, axis=1, dtype=np.uint8)
        # A row holds the first byte of every float, then the second of every float, …
        planes = planes.reshape(len(rows), layout.dtype.itemsize, -1).swapaxes(1, 2)
        floats = np.ascontiguousarray(planes).view(layout.dtype.newbyteorder(">"))
        return floats.reshape(len(rows), -1, samples)
    values = np.ascontiguousarray(rows).view(layout.dtype).reshape(len(rows), -1, samples)
    if layout.predictor == 2:
        whole = np.dtype(f"u{layout.dtype.itemsize}")
        numbers = values.view(whole.newbyteorder(layout.dtype.byteorder))
        values = np.cumsum(numbers, axis=1, dtype=whole).view(native)
    return values


def _unpacked(layout: TiffLayout, rows: NDArray[np.uint8], samples: int) -> NDArray[np.uint16]:
    """Samples of 9 to 15 bits that follow each other without a gap, the highest bit first."""
    count = layout.piece[1] * samples
    found = np.empty((len(rows), count), np.uint16)
    at_once = max(1, PACKED_BYTES // layout.row_bytes)
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        bits = np.unpackbits(part, axis=1, count=count * layout.bits)
        words = np.zeros((len(part), count, 16), np.uint8)
        words[..., 16 - layout.bits :] = bits.reshape(len(part), count, layout.bits)
        found[start : start + at_once] = np.packbits(words, axis=2).view(">u2")[..., 0]
    return found.reshape(len(rows), -1, samples)


def _list(numbers: NDArray[np.int64]) -> str:
    return shown(numbers[:8].tolist())


def _not_supported(what: str) -> ImageError:
    return ImageError(f"A TIFF {what} is not supported: save it as PNG, or as an ordinary TIFF.")


def _damaged(cause: str) -> ImageError:
    return ImageError(
        f"The TIFF is cut off or damaged ({cause}): send the whole file, or save it again."
    )
