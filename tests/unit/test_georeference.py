"""GeoTIFFs: pixels lie where the file's tags say; by_hand/annotation_readers.py asks rasterio."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sam3_image.decode import GeoReference, Limits, decode
from sam3_image.output import Output, render
from tests.helpers.drawn_instances import instances_of
from tests.helpers.tiff_writer import Layout, Tag, write

SCALE, TIE, MATRIX, KEYS = 33550, 33922, 34264, 34735
UTM = {1024: 1, 1025: 1, 3072: 32633}
WGS84 = {1024: 2, 1025: 1, 2048: 4326}
NORTH_UP: dict[int, Tag] = {
    SCALE: (12, [10.0, 20.0, 0.0]),
    TIE: (12, [2.0, 3.0, 0.0, 399960.0, 5700000.0, 0.0]),
}
ROTATED: dict[int, Tag] = {
    MATRIX: (12, [0.3, 0.1, 0.0, 5e5, 0.1, -0.3, 0.0, 4.1e6, *[0.0] * 7, 1.0])
}


def keys(values: dict[int, int]) -> dict[int, Tag]:
    rows = [number for key, value in values.items() for number in (key, 0, 1, value)]
    return {KEYS: (3, [1, 1, 0, len(values), *rows])}


def image(tags: dict[int, Tag], **layout: Any) -> Any:
    values = np.zeros((30, 40, 3), np.uint8)
    return decode(write(values, Layout(tags=tags, **layout)), Limits())


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
@pytest.mark.parametrize("deep", [False, True], ids=["pillow", "own reader"])
def test_the_map_of_a_tiff(order: str, big: bool, deep: bool) -> None:
    values = np.zeros((30, 40, 3), np.uint16 if deep else np.uint8)
    layout = Layout(order=order, big=big, tags={**NORTH_UP, **keys(UTM)})
    geo = decode(write(values, layout), Limits()).geo
    assert geo == GeoReference((10, 0, 399940, 0, -20, 5700060), 32633)
    assert np.array_equal(geo.to_world(np.array([[2.0, 3.0]])), [[399960, 5700000]])


def test_a_matrix_turns_and_pixel_centres_are_half_a_pixel_off() -> None:
    geo = image({**ROTATED, **keys(WGS84)}).geo
    assert geo == GeoReference((0.3, 0.1, 5e5, 0.1, -0.3, 4.1e6), 4326)
    point = image({**ROTATED, **keys({**WGS84, 1025: 2})}).geo
    centre = np.array([[0.5, 0.5]])
    assert np.allclose(point.to_world(centre), [[5e5, 4.1e6]], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        NORTH_UP,
        keys(UTM),
        {**NORTH_UP, **keys({1024: 1, 3072: 32767})},
        {**NORTH_UP, **keys(UTM), 274: (3, [6])},
        {SCALE: (12, [0.0, 0.0, 0.0]), TIE: NORTH_UP[TIE], **keys(UTM)},
        {SCALE: (12, [float("nan"), 1.0, 0.0]), TIE: NORTH_UP[TIE], **keys(UTM)},
        {SCALE: (3, [1, 1, 0]), TIE: NORTH_UP[TIE], **keys(UTM)},
        {MATRIX: (12, [1.0] * 15), **keys(UTM)},
        {**NORTH_UP, KEYS: (3, [1, 1])},
    ],
)
def test_what_is_not_understood_has_no_place(tags: dict[int, Tag]) -> None:
    assert image(tags).geo is None


def test_a_damaged_reference_does_not_cost_the_image() -> None:
    data = bytearray(write(np.zeros((30, 40, 3), np.uint8), Layout(tags={**ROTATED, **keys(UTM)})))
    at = data.index((MATRIX).to_bytes(2, "little"))
    data[at + 8 : at + 12] = (0xFFFFFF).to_bytes(4, "little")
    assert decode(bytes(data), Limits()).geo is None


def test_geojson_of_a_geotiff_is_in_the_world() -> None:
    mask = np.zeros((30, 40), bool)
    mask[10:20, 5:9] = True
    output = Output(return_zip=False, annotation_format="geojson")
    for reference, name in ((UTM, "EPSG::32633"), (WGS84, "OGC:1.3:CRS84")):
        found = render(image({**NORTH_UP, **keys(reference)}), instances_of([mask]), output)
        document = json.loads(found.data)
        assert document["crs"]["properties"]["name"] == f"urn:ogc:def:crs:{name}"
        (ring,) = document["features"][0]["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        low, high = np.min(ring, axis=0), np.max(ring, axis=0)
        assert low.tolist() == [399940 + 50, 5700060 - 400]
        assert high.tolist() == [399940 + 90, 5700060 - 200]
