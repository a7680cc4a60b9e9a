"""Pascal VOC: boxes in XML, each tightly around its mask; a mask without a pixel has none.

VOC counts pixels from 1 and its boxes include the last one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

from sam3_image.masks import Mask
from sam3_image.output.formats.base import (
    AnnotationFormat,
    Categories,
    ImageInfo,
    Record,
    one_file_each,
)

# What XML 1.0 cannot hold, however it is written.
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _record(facts: Record, mask: Mask) -> Record:
    return {"concept": facts["concept"], "box": mask.box}


def _add(parent: ElementTree.Element, name: str, value: object = "") -> ElementTree.Element:
    element = ElementTree.SubElement(parent, name)
    element.text = FORBIDDEN.sub("\ufffd", str(value))
    return element


def _document(image: ImageInfo, records: Sequence[Any], _: Categories) -> str:
    height, width = image.size
    root = ElementTree.Element("annotation")
    path = PurePosixPath(image.file_name)
    _add(root, "folder", path.parent.name)
    _add(root, "filename", path.name)
    size = _add(root, "size")
    for name, value in (("width", width), ("height", height), ("depth", 3)):
        _add(size, name, value)
    _add(root, "segmented", 0)
    for record in records:
        x0, y0, x1, y1 = record["box"]
        if x1 == x0:
            continue
        item = _add(root, "object")
        _add(item, "name", record["concept"])
        _add(item, "pose", "Unspecified")
        # VOC calls cut off what goes on outside the image.
        cut_off = x0 == 0 or y0 == 0 or x1 == width or y1 == height
        _add(item, "truncated", int(cut_off))
        _add(item, "difficult", 0)
        box = _add(item, "bndbox")
        for name, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            _add(box, name, value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


FORMAT = AnnotationFormat(
    "voc",
    "Pascal VOC (boxes)",
    _record,
    _document,
    file_name="annotations.xml",
    media_type="application/xml",
    dump=str.encode,
    dataset=one_file_each(_document, str.encode, "Annotations/{stem}.xml"),
)
