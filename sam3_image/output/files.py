"""Instances and their image → the one file that the caller asked for."""

from __future__ import annotations

import errno
import io
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3_image.decode import Image
from sam3_image.errors import OutputError
from sam3_image.masks import Detections, Mask
from sam3_image.output import png
from sam3_image.output.canvas import Canvas, Style
from sam3_image.output.formats import Annotations, ImageInfo
from sam3_image.output.images import PICTURE_FORMATS, Pixels
from sam3_image.output.label_map import LabelMap
from sam3_image.output.options import Output

PNG_TYPE, ZIP_TYPE = "image/png", "application/zip"

# ISA-L leaves Python's lock while it works, so masks are encoded side by side. Twice as many as
# there are encoders may wait, so memory does not grow with the number of instances.
ENCODERS = 4
# Below this many pixels a mask is encoded in less time than it takes to hand it to a thread.
THREADED_PIXELS = 4_000_000

# ZIP cannot store an earlier date; a fixed one makes equal results equal bytes.
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
ZIP_MODE = 0o100644 << 16

ADVICE = {
    errno.ENOSPC: "free some disk space and try again",
    errno.EDQUOT: "free some disk space and try again",
    errno.EROFS: "choose a folder that is mounted writable",
    errno.EACCES: "give this process the right to write there, or choose another folder",
    errno.ENOENT: "the folder is not there; make it, or choose another",
}


def unwritable(target: Path, error: OSError) -> OutputError:
    """The error for a result that cannot be written to `target`."""
    advice = ADVICE.get(error.errno or 0, "check the folder and try again")
    reason = error.strerror or str(error)
    return OutputError(f"The result cannot be written to {target} ({reason}): {advice}.")


@dataclass(frozen=True)
class RenderedFile:
    """A result in memory: its file name, media type and content."""

    name: str
    media_type: str
    data: bytes


def render(image: Image, instances: Detections, output: Output) -> RenderedFile:
    """The one file that `output` asks for.

    Its name is `masks.zip`, `mask.png`, `label_map.png`, `overlay.*`, `cutout.*` or that of the
    annotation format (`yolo.zip` for one that is several files).
    No instance is a result, too: a ZIP without masks, the untouched image, a black mask, an empty
    list. `image.size` and `instances.size` are the same (height, width).

    Raises `InputError` where `output_format` cannot hold the size of the image.
    """
    output.check_size(image.size)
    if output.return_zip:
        return RenderedFile("masks.zip", ZIP_TYPE, _zip(image, instances, output))
    if output.wants_annotations:
        return _annotation_file(_annotations(instances, output.annotation_format, _info(image)))
    if output.wants_label_map:
        labels = LabelMap(instances, output.label_map)
        for mask in instances.masks():
            labels.add(mask)
        return RenderedFile("label_map.png", PNG_TYPE, labels.encode())
    canvas = _canvas(image, instances, output)
    if output.wants_silhouette:
        return RenderedFile("mask.png", PNG_TYPE, png.encode(canvas.silhouette()))
    name, content = next(_pictures(canvas, instances, output))
    return RenderedFile(name, PICTURE_FORMATS[output.output_format].media_type, content)


def save(image: Image, instances: Detections, output: Output, folder: Path) -> Path:
    """Write what `render` gives into `folder`, which exists, and return its path.

    Raises what `render` raises, and `OutputError` where the file cannot be written.
    """
    rendered = render(image, instances, output)
    path = folder / rendered.name
    try:
        path.write_bytes(rendered.data)
    except OSError as error:
        raise unwritable(folder, error) from error
    return path


def draw(image: Image, instances: Detections, output: Output) -> Pixels:
    """The overlay that `output` asks for: (H, W, 3) uint8 RGB."""
    return _canvas(image, instances, output).overlay(instances)


def annotate(instances: Detections, annotation_format: str, image: ImageInfo | None = None) -> Any:
    """Annotations as JSON values, or as text for a format that is none; never "none"."""
    return _annotations(instances, annotation_format, image).document()


def _annotations(
    instances: Detections, annotation_format: str, image: ImageInfo | None = None
) -> Annotations:
    annotations = Annotations(instances, annotation_format, image)
    for mask in instances.masks():
        annotations.add(mask)
    return annotations


def _info(image: Image) -> ImageInfo:
    return ImageInfo(image.size, geo=image.geo)


def _annotation_file(annotations: Annotations) -> RenderedFile:
    """The file of the format, or a ZIP of them where it has several."""
    known, files = annotations.format, annotations.files()
    if not known.extra:
        return RenderedFile(known.file_name, known.media_type, files[known.file_name])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            _store(archive, name, data, zipfile.ZIP_DEFLATED)
    return RenderedFile(f"{known.name}.zip", ZIP_TYPE, content.getvalue())


def _canvas(image: Image, instances: Detections, output: Output) -> Canvas:
    canvas = Canvas(image.pixels, _style(output))
    for mask in instances.masks():
        canvas.add(mask)
    return canvas


def _zip(image: Image, instances: Detections, output: Output) -> bytes:
    canvas = None
    if output.wants_overlay or output.wants_silhouette or output.apply_mask:
        canvas = Canvas(image.pixels, _style(output))
    annotations = None
    if output.wants_annotations:
        annotations = Annotations(instances, output.annotation_format, _info(image))
    labels = LabelMap(instances, output.label_map) if output.wants_label_map else None
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        consumers = [consumer.add for consumer in (canvas, annotations, labels) if consumer]
        for index, mask in enumerate(_encoded(_tee(instances.masks(), consumers), image.size)):
            _store(archive, f"mask_{index:03}.png", mask)
        if canvas:
            for name, picture in _pictures(canvas, instances, output):
                _store(archive, name, picture)
        for name, data in annotations.files().items() if annotations else ():
            _store(archive, name, data)
        if labels:
            _store(archive, "label_map.png", labels.encode())
            _store(archive, "labels.json", labels.legend())
    return content.getvalue()


def _pictures(canvas: Canvas, instances: Detections, output: Output) -> Iterator[tuple[str, bytes]]:
    """Name and content of each picture beside the masks that `output` asks for."""
    if output.wants_silhouette:  # under the name that the drop-in interface gives it
        yield "overlay.png", png.encode(canvas.silhouette())
    suffix = output.output_format
    form = PICTURE_FORMATS[suffix]
    if output.wants_overlay:
        yield f"overlay.{suffix}", form.encode(canvas.overlay(instances))
    if output.apply_mask:
        pixels = canvas.cutout() if form.alpha else canvas.cutout_on_white()
        yield f"cutout.{suffix}", form.encode(pixels)


def _style(output: Output) -> Style | None:
    if not output.wants_overlay:
        return None
    return Style(output.mask_color, output.mask_opacity, output.show_labels)


def _tee(masks: Iterator[Mask], consumers: Sequence[Callable[[Mask], None]]) -> Iterator[Mask]:
    """Yield the same masks, after giving each to every consumer."""
    for mask in masks:
        for consume in consumers:
            consume(mask)
        yield mask


def _encoded(masks: Iterator[Mask], size: tuple[int, int]) -> Iterator[bytes]:
    """Return the PNG of each mask, in order, made by a few threads with a bounded backlog."""
    workers = min(ENCODERS, png.available_cores())
    if size[0] * size[1] < THREADED_PIXELS:
        yield from map(png.encode_mask, masks)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[bytes]] = deque()
        for mask in masks:
            waiting.append(pool.submit(png.encode_mask, mask))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _store(
    archive: zipfile.ZipFile, name: str, content: bytes, method: int = zipfile.ZIP_STORED
) -> None:
    """Add a file, stored as it is unless told otherwise: a PNG would not get smaller."""
    entry = zipfile.ZipInfo(name, ZIP_DATE)
    entry.compress_type = method
    entry.create_system = 3  # Unix on every machine, or the bytes would differ
    entry.external_attr = ZIP_MODE
    # Digits hardly get smaller at a higher level, which takes six times as long.
    archive.writestr(entry, content, compresslevel=1)
