"""Where on the earth the pixels of a GeoTIFF lie (OGC GeoTIFF 1.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sam3_image.decode.tiff_directory import Directory

_PIXEL_SCALE, _TIEPOINTS, _TRANSFORMATION, _KEYS = 33550, 33922, 34264, 34735
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072  # keys
_PIXEL_IS_POINT, _USER_DEFINED = 2, 32767
_ORIENTATION, _UPRIGHT = 274, 1
_DOUBLE = 12


@dataclass(frozen=True)
class GeoReference:
    """An affine map from pixels to a coordinate reference system of the EPSG registry.

    transform: a, b, c, d, e, f; the pixel corner (x, y) lies at (a·x + b·y + c, d·x + e·y + f), as
        rasterio's `Affine` has it: (0, 0) is the top left corner of the first pixel.
    epsg: the number of the system. The first coordinate is the easting or longitude.
    """

    transform: tuple[float, float, float, float, float, float]
    epsg: int

    @classmethod
    def from_tiff(cls, directory: Directory) -> GeoReference | None:
        """What a TIFF says; None where it is not georeferenced by an affine map and an EPSG code.

        None, too, for an image that is stored turned or mirrored: programs do not agree on which
        pixels its georeference then means.
        """
        keys = _geo_keys(directory)
        epsg = keys.get(_PROJECTED, keys.get(_GEOGRAPHIC, 0))
        found = _transform(directory)
        upright = directory.number(_ORIENTATION, _UPRIGHT) == _UPRIGHT
        if found is None or not upright or not 0 < epsg < _USER_DEFINED:
            return None
        a, b, c, d, e, f = found
        if keys.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # whole numbers are the centres of pixels
            c, f = c - (a + b) / 2, f - (d + e) / 2
        return cls((a, b, c, d, e, f), epsg)

    def to_world(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 2) x, y in pixels → (n, 2) float64 in the reference system."""
        a, b, c, d, e, f = self.transform
        x, y = points.T
        return np.stack((a * x + b * y + c, d * x + e * y + f), axis=1)


def _transform(directory: Directory) -> tuple[float, ...] | None:
    """The affine map, before pixel centres are told from corners; None where there is none."""
    scale, tie = _doubles(directory, _PIXEL_SCALE), _doubles(directory, _TIEPOINTS)
    matrix = _doubles(directory, _TRANSFORMATION)
    if len(scale) >= 2 and len(tie) >= 6:
        a, e = scale[0], -abs(scale[1])  # rows go south, whatever sign the file has
        found = (a, 0.0, tie[3] - a * tie[0], 0.0, e, tie[4] - e * tie[1])
    elif len(matrix) == 16:
        found = (matrix[0], matrix[1], matrix[3], matrix[4], matrix[5], matrix[7])
    else:
        return None
    a, b, _, d, e, _ = found
    return found if np.isfinite(found).all() and a * e != b * d else None


def _doubles(directory: Directory, tag: int) -> list[float]:
    """A tag's first 16 numbers; none where it is missing, of another type or cut off."""
    field = directory.fields.get(tag)
    if field is None or field.kind != _DOUBLE:
        return []
    content = directory.content(tag, 16 * 8)
    order = "<f8" if directory.order == "little" else ">f8"
    numbers: list[float] = np.frombuffer(content[: len(content) // 8 * 8], order).tolist()
    return numbers


def _geo_keys(directory: Directory) -> dict[int, int]:
    """The keys whose value is one whole number: by key."""
    numbers = directory.numbers(_KEYS)
    rows = numbers[4 : len(numbers) // 4 * 4].reshape(-1, 4).tolist()
    return {key: value for key, location, count, value in rows if location == 0 and count == 1}
