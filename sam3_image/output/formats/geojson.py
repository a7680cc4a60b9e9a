"""GeoJSON: each instance as a polygon with holes, or as a multipolygon where it has parts.

Coordinates are those of the world where the image is a TIFF that says where it lies (see
`GeoReference`); the member "crs" then names their system, which GDAL, QGIS and geopandas read.
Otherwise they are pixels, y downwards, and there is no "crs". A mask without a pixel is a feature
without a geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sam3_image.masks import Mask, polygons
from sam3_image.output.formats.base import (
    AnnotationFormat,
    Categories,
    ImageInfo,
    Record,
    dump_json,
    one_file_each,
)

WGS84 = 4326


def _record(facts: Record, mask: Mask) -> Record:
    return {**facts, "area": mask.area, "parts": polygons.trace(mask)}


def _ring(ring: polygons.Ring, image: ImageInfo, clockwise: bool) -> list[list[float]]:
    """A closed ring: its last point is its first."""
    points = ring.astype(np.float64)
    if image.geo is not None:
        points = image.geo.to_world(points)
    # About its first point: areas of world coordinates would drown in their size.
    x, y = (points - points[0]).T
    twice_area = float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    if (twice_area < 0) != clockwise:
        points = points[::-1]
    return np.concatenate((points, points[:1])).tolist()


def _geometry(parts: Sequence[polygons.Part], image: ImageInfo) -> Record | None:
    made = [
        [_ring(part.outer, image, False), *(_ring(hole, image, True) for hole in part.holes)]
        for part in parts
    ]
    if not made:
        return None
    if len(made) == 1:
        return {"type": "Polygon", "coordinates": made[0]}
    return {"type": "MultiPolygon", "coordinates": made}


def _document(image: ImageInfo, records: Sequence[Any], _: Categories) -> Record:
    features = [
        {
            "type": "Feature",
            "id": index,
            "properties": {key: value for key, value in record.items() if key != "parts"},
            "geometry": _geometry(record["parts"], image),
        }
        for index, record in enumerate(records)
    ]
    document: Record = {"type": "FeatureCollection"}
    if image.geo is not None:
        # The name of WGS 84 with the longitude first, as its coordinates are here.
        name = "OGC:1.3:CRS84" if image.geo.epsg == WGS84 else f"EPSG::{image.geo.epsg}"
        document["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{name}"}}
    return {**document, "features": features}


FORMAT = AnnotationFormat(
    "geojson",
    "GeoJSON",
    _record,
    _document,
    file_name="annotations.geojson",
    media_type="application/geo+json",
    dataset=one_file_each(_document, dump_json, "{stem}.geojson"),
)
