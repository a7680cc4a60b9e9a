"""How samples of more than 8 bits become 8: which value is shown black and which white.

16-bit files rarely fill their range: a 12-bit camera, an elevation model or a thermal image is
almost uniformly dark or light when the whole range of the type is shown. `auto` looks at the
values; images of 8 bits per channel are never changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sam3_image.errors import InputError, Options, shown

AUTO, TYPE = "auto", "type"

# Values that the statistics of one image look at; the 99.9th percentile lies above 1,000 others.
STATISTICS_VALUES = 1_000_000
PERCENTILES = (1, 99)  # shown black and white where the image does not fill its range
# An image fills its range when this percentile reaches half of it.
BRIGHT_PERCENTILE = 99.9
# Written for "no measurement" by geographic programs that do not tag the value.
USUAL_NODATA = (-9999.0, -32768.0)


class DecodeOptions(Options):
    """The input of `predict()` about decoding, with its name and default.

    Raises InputError for a value that is not accepted.
    """

    value_range: str = Field(
        default=AUTO,
        description=(
            "How more than 8 bits per channel become 8: auto (what the values need), type (the "
            "whole range of the file's number type), or LOW,HIGH (the values shown black and "
            "white). 8-bit images never change"
        ),
    )

    def model_post_init(self, _context: object) -> None:
        """Check the value."""
        parse_value_range(self.value_range)


def parse_value_range(text: str) -> str | tuple[float, float]:
    """Return "auto", "type" or (low, high), low < high and both finite; raises InputError."""
    word = text.strip().lower()
    if word in (AUTO, TYPE):
        return word
    try:
        low, high = (float(part) for part in word.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(
            f"value_range is {shown(text)}; give auto, type, or LOW,HIGH: two numbers, the smaller "
            "first, such as 0,4095."
        )
    return low, high


@dataclass(frozen=True)
class Samples:
    """Decoded samples in the file's own numbers.

    values: (H, W, 1) gray or (H, W, 3) RGB, any integer or float type in native byte order.
    bits: significant bits of an integer sample, such as 12 for packed 12-bit values in uint16.
    alpha: (H, W) of the same type, or bool (False is transparent); None for an opaque image.
    associated: the values are multiplied by alpha already.
    white_is_zero: the smallest value is white (TIFF's MinIsWhite).
    nodata: the value that stands for "no measurement", drawn black; None where there is none.
    """

    values: NDArray[Any]
    bits: int
    alpha: NDArray[Any] | None = None
    associated: bool = False
    white_is_zero: bool = False
    nodata: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.values.shape[0], self.values.shape[1]

    def part(self, rows: slice, columns: slice = slice(None)) -> Samples:
        """Return a view of some rows and columns."""
        alpha = None if self.alpha is None else self.alpha[rows, columns]
        return Samples(
            self.values[rows, columns],
            self.bits,
            alpha,
            self.associated,
            self.white_is_zero,
            self.nodata,
        )

    def type_range(self) -> tuple[float, float]:
        """Smallest and largest value of the number type; 0 and 1 for floats."""
        kind = self.values.dtype.kind
        if kind == "f":
            return 0.0, 1.0
        if kind == "i":
            return -float(1 << (self.bits - 1)), float((1 << (self.bits - 1)) - 1)
        return 0.0, float((1 << self.bits) - 1)

    def straight(self) -> NDArray[Any]:
        """Return the values not multiplied by alpha, (H, W, 1 or 3)."""
        if self.alpha is None or not self.associated:
            return self.values
        opaque = self.type_range()[1]
        alpha = self.alpha.astype(np.float64)[..., None]
        with np.errstate(divide="ignore", invalid="ignore"):
            divided = np.where(alpha > 0, self.values * (opaque / alpha), 0)
        # Junk may exceed alpha; NaN of float files stays.
        return np.minimum(divided, opaque)

    def opacity(self) -> NDArray[np.uint8] | None:
        """Return alpha as (H, W) uint8, 255 opaque; None for an opaque image."""
        if self.alpha is None:
            return None
        if self.alpha.dtype == bool:
            return self.alpha.astype(np.uint8) * np.uint8(255)
        if self.alpha.dtype.kind == "u":
            return (self.alpha >> np.uint8(self.bits - 8)).astype(np.uint8)
        largest = self.type_range()[1]
        scaled = np.nan_to_num(self.alpha.astype(np.float64), nan=0.0) * (255 / largest)
        return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


@dataclass(frozen=True)
class Levels:
    """The mapping of one image's samples to 8 bits.

    low, high: the values shown black and white (white and black where zero is white).
    nodata: values drawn black whatever the range, as are NaN and infinities.
    reason: why this range, for the log.
    """

    low: float
    high: float
    nodata: tuple[float, ...]
    reason: str

    def apply(self, samples: Samples) -> NDArray[np.uint8]:
        """Return the samples as uint8 of the same shape; alpha is not looked at."""
        values = samples.straight()
        small = values.dtype.kind == "u" and values.dtype.itemsize <= 2
        if small and not self._is_high_byte(values, samples):
            every = np.arange(1 << 8 * values.dtype.itemsize, dtype=values.dtype)
            return np.take(self._levels(every, samples), values)
        return self._levels(values, samples)

    def _levels(self, values: NDArray[Any], samples: Samples) -> NDArray[np.uint8]:
        if self._is_high_byte(values, samples):
            levels = (values >> np.uint8(samples.bits - 8)).astype(np.uint8)
        else:
            with np.errstate(invalid="ignore", over="ignore"):
                scaled = values.astype(np.float64)
                scaled -= self.low
                scaled /= self.high - self.low
                scaled *= 255
            np.nan_to_num(scaled, copy=False)
            np.clip(scaled, 0, 255, out=scaled)
            levels = np.rint(scaled, out=scaled).astype(np.uint8)
        if samples.white_is_zero:
            levels = 255 - levels
        if (invalid := _invalid(values, self.nodata)) is not None:
            levels[invalid] = 0
        return levels

    def _is_high_byte(self, values: NDArray[Any], samples: Samples) -> bool:
        """Whether the levels are 8-bit values, or color of 16 bits that is cut off as usual.

        Pillow and OpenCV drop the low byte of 16-bit color, and round 16-bit gray.
        """
        whole = (self.low, self.high) == samples.type_range()
        usual = samples.bits == 8 or (samples.bits == 16 and _is_color(samples))
        return whole and values.dtype.kind == "u" and usual

    def note(self, samples: Samples) -> str:
        """Return a line for the log: the range that was shown, and how to choose another."""
        black, white = (self.high, self.low) if samples.white_is_zero else (self.low, self.high)
        kind = samples.values.dtype.name
        if samples.values.dtype.kind != "f" and samples.bits != 8 * samples.values.dtype.itemsize:
            kind = f"{samples.bits}-bit"
        return (
            f"Values: {black:,.6g} shown black to {white:,.6g} white, of {kind} ({self.reason}); "
            "value_range chooses another range"
        )


def choose_levels(samples: Samples, value_range: str) -> Levels:
    """Return how the samples are mapped to 8 bits.

    value_range: "auto", "type" or "LOW,HIGH"; without effect on unsigned 8-bit samples.
    Raises InputError for another value_range.
    """
    wanted = parse_value_range(value_range)
    stored = nodata_of(samples.nodata, samples.values.dtype)
    nodata = () if stored is None else (stored,)
    if samples.values.dtype.kind == "u" and samples.bits <= 8:
        return Levels(*samples.type_range(), (), "8 bits")
    if isinstance(wanted, tuple):
        return Levels(*wanted, nodata, "as value_range says")
    if wanted == TYPE:
        return Levels(*samples.type_range(), nodata, "the whole type")
    return _automatic(samples, nodata)


def _automatic(samples: Samples, nodata: tuple[float, ...]) -> Levels:
    low, high = usual = _usual_range(samples)
    values = _valid_values(samples, nodata)
    if values.size == 0:
        return Levels(low, high, nodata, "auto: no valid values")
    smallest, largest = float(values.min()), float(values.max())
    if smallest in USUAL_NODATA and smallest != largest and not nodata:
        rest = values[values != smallest]
        second = float(rest.min())
        if second - smallest > (largest - second) / 2:  # far from everything else
            nodata, values, smallest = (smallest,), rest, second
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.percentile(values, (*PERCENTILES, BRIGHT_PERCENTILE), overwrite_input=True)
        first, last, bright = map(float, found)
    if smallest >= low and largest <= high and bright - low >= (high - low) / 2:
        return Levels(*usual, nodata, "auto: they fill the type's range")
    if smallest == largest:
        return Levels(*usual, nodata, "auto: a constant image, the type's range")
    if first < last and math.isfinite(last - first):
        return Levels(first, last, nodata, "auto: 1st to 99th percentile")
    # Nearly constant, such as a few objects on one value; or too large for arithmetic.
    return Levels(smallest, largest, nodata, "auto: smallest to largest")


def _usual_range(samples: Samples) -> tuple[float, float]:
    """The range that `auto` keeps where the values fill it.

    Wide and signed integers mostly hold 16-bit measurements; nothing fills a 32-bit range.
    """
    if samples.values.dtype.kind == "f" or samples.bits <= 8:
        return samples.type_range()
    if samples.values.dtype.kind == "u" and samples.bits <= 16:
        return samples.type_range()
    return 0.0, 65535.0


def _valid_values(samples: Samples, nodata: tuple[float, ...]) -> NDArray[Any]:
    """Return a copy of some samples of visible pixels, (n,); no NaN or nodata."""
    height, width = samples.size
    step = max(1, math.isqrt(height * width * samples.values.shape[2] // STATISTICS_VALUES))
    some = samples.part(slice(None, None, step), slice(None, None, step))
    values = some.straight()
    if some.alpha is not None and (visible := some.alpha > 0).any():
        values = values[visible]
    values = values.reshape(-1)
    if (invalid := _invalid(values, nodata)) is not None:
        values = values[~invalid]
    # The arithmetic of percentiles overflows in signed integers and small floats.
    small = values.dtype.itemsize <= 2
    kinds = {"u": values.dtype, "i": np.dtype(np.float32 if small else np.float64)}
    wide = kinds.get(values.dtype.kind, np.result_type(values, np.float32))
    return values.astype(wide, copy=np.shares_memory(values, samples.values))


def _invalid(values: NDArray[Any], nodata: tuple[float, ...]) -> NDArray[np.bool_] | None:
    """Where values are nodata, NaN or infinite; None for integers without nodata."""
    invalid = ~np.isfinite(values) if values.dtype.kind == "f" else None
    for value in nodata:
        equal = values == np.float64(value)
        invalid = equal if invalid is None else invalid | equal
    return invalid


def nodata_of(nodata: float | None, dtype: np.dtype[Any]) -> float | None:
    """Return the nodata value as samples of that type hold it; None where they cannot."""
    if nodata is None or not math.isfinite(nodata):
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            stored = float(np.array(nodata).astype(dtype))
        return stored if math.isfinite(stored) else None
    limits = np.iinfo(dtype)
    return nodata if nodata.is_integer() and limits.min <= nodata <= limits.max else None


def _is_color(samples: Samples) -> bool:
    return samples.values.shape[2] > 1 or samples.alpha is not None
