"""The tools themselves read back the formats made for them, and rasterio the place of a GeoTIFF.

    uv venv /tmp/readers && uv pip install --python /tmp/readers/bin/python \\
        -r requirements.txt -r requirements-dev.txt -r requirements-batch.txt \\
        ultralytics==8.4.190 labelme==6.3.1 rasterio==1.4.4 shapely==2.2.0
    /tmp/readers/bin/python -m tools.annotation_readers

In a venv of its own: ultralytics brings a second OpenCV, labelme Qt.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from labelme._label_file import _load_shape_json_obj
from labelme.utils import shapes_to_label
from PIL import Image as Pillow
from rasterio.features import rasterize
from rasterio.transform import Affine
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset, polygon2mask

from sam3_image.batch.export import export
from sam3_image.decode import Limits, open_any
from sam3_image.output import ImageInfo, annotate
from sam3_image.output.formats import dataset
from tests.batch.test_batch_export import local_images
from tests.helpers.drawn_instances import Bools, instances_of, scene
from tests.unit.test_annotation_formats import NAMES, found_in, iou, write

COUNT = 40


def main() -> None:
    """Print the worst IoU of each format over the scenes."""
    scenes = [scene(seed) for seed in range(COUNT)]
    with tempfile.TemporaryDirectory() as folder:
        print("yolo, ultralytics:", *ultralytics(Path(folder), scenes))
        print("labelme:", min(labelme(masks) for masks in scenes))
        print("geojson, rasterio:", min(geojson(masks) for masks in scenes))
        (Path(folder) / "bulk").mkdir()
        print("yolo of a bulk run, ultralytics: images loaded", bulk(Path(folder) / "bulk"))
        for name, error in georeferences(Path(folder)):
            print(f"{name}: corners of pixels differ from rasterio's by {error:.2g} pixels")


def ultralytics(folder: Path, scenes: list[list[Bools]]) -> tuple[str, ...]:
    """The worst IoU of masks of one part, and of several; and whether classes are right."""
    images = [
        (ImageInfo(masks[0].shape, f"{index}.png", index), found_in(masks))
        for index, masks in enumerate(scenes)
    ]
    write(dataset("yolo", images, NAMES), folder)
    (folder / "images").mkdir()
    for image, _ in images:
        Pillow.new("RGB", image.size[::-1]).save(folder / "images" / image.file_name)
    assert yaml_of(folder)["names"] == dict(enumerate(NAMES))
    read = loaded(folder)
    one, several = [], []
    assert len(read.labels) == len(scenes)
    for label in read.labels:
        masks = scenes[int(Path(label["im_file"]).stem)]
        assert label["cls"].ravel().tolist() == [index % 3 for index in range(len(masks))]
        for segment, mask in zip(label["segments"], masks, strict=True):
            drawn = polygon2mask(mask.shape, [(segment * mask.shape[::-1]).ravel()]).astype(bool)
            (several if len(shapes_of([mask])) > 1 else one).append(iou(drawn, mask))
    return f"one part {min(one)}, several parts {min(several):.4f},", f"{len(one)} + {len(several)}"


def yaml_of(folder: Path) -> Any:
    return check_det_dataset(str(folder / "data.yaml"), autodownload=False)


def loaded(folder: Path) -> YOLODataset:
    data = yaml_of(folder)
    return YOLODataset(img_path=data["train"], data=data, task="segment", cache=False)


def bulk(folder: Path) -> int:
    """How many images of a bulk export ultralytics loads, each with the instance in it."""
    read = loaded(Path(export(local_images(folder), "yolo")))
    for index, label in enumerate(read.labels):
        assert len(label["segments"]) == len(label["cls"]) > 0
        assert read.load_image(index)[1] == (40, 50)  # before it is resized
    return len(read.labels)


def shapes_of(masks: list[Bools]) -> list[Any]:
    document = json.loads(json.dumps(annotate(instances_of(masks), "labelme")))
    return [_load_shape_json_obj(shape) for shape in document["shapes"]]


def labelme(masks: list[Bools]) -> float:
    worst = 1.0
    for mask in masks:  # one at a time: a label image has one value a pixel
        names = {"_background_": 0, "thing": 1}
        drawn, _ = shapes_to_label(mask.shape, shapes_of([mask]), names)
        worst = min(worst, iou(drawn.astype(bool), mask))
    return worst


def geojson(masks: list[Bools]) -> float:
    document = annotate(instances_of(masks), "geojson")
    shapes = [feature["geometry"] for feature in document["features"]]
    drawn = [rasterize([shape], mask.shape) > 0 for shape, mask in zip(shapes, masks, strict=True)]
    return min(iou(one, mask) for one, mask in zip(drawn, masks, strict=True))


def georeferences(folder: Path) -> list[tuple[str, float]]:
    """How far our corners of three GeoTIFFs, written by rasterio, are from rasterio's."""
    turned = Affine.translation(5e5, 4.1e6) * Affine.rotation(27) * Affine.scale(0.3, -0.3)
    cases = {
        "UTM north-up": (Affine(10, 0, 399960, 0, -10, 5700000), 32633),
        "rotated": (turned, 32612),
        "geographic": (Affine(2.5e-5, 0, 13.25, 0, -1.5e-5, 52.625), 4326),
    }
    found = []
    for name, (transform, epsg) in cases.items():
        path = folder / f"{epsg}.tif"
        options = {"driver": "GTiff", "height": 50, "width": 80, "count": 3, "dtype": "uint8"}
        with rasterio.open(path, "w", crs=f"EPSG:{epsg}", transform=transform, **options) as file:
            file.write(np.zeros((3, 50, 80), np.uint8))
        with rasterio.open(path) as file:
            theirs, their_epsg = file.transform, file.crs.to_epsg()
        geo = open_any(path, Limits()).geo
        assert geo is not None
        assert geo.epsg == their_epsg
        corners = np.array([(0, 0), (80, 0), (80, 50), (0, 50), (17.5, 33.5)])
        world = geo.to_world(corners)
        again = np.array([~theirs * tuple(point) for point in world])
        found.append((name, float(np.abs(again - corners).max())))
    return found


if __name__ == "__main__":
    main()
