"""Detections and the picture → the one file that the caller asked for."""

from __future__ import annotations

import errno
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sam3_image.decode import Image
from sam3_image.errors import OutputError
from sam3_image.masks import Detections, Mask
from sam3_image.output import png
from sam3_image.output.annotations import Annotations
from sam3_image.output.options import Output
from sam3_image.output.pictures import PICTURE_FORMATS, Pixels
from sam3_image.output.render import Canvas, Style

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
    """Return the error for a result that cannot be written to `target`."""
    advice = ADVICE.get(error.errno or 0, "check the folder and try again")
    reason = error.strerror or str(error)
    return OutputError(f"The result cannot be written to {target} ({reason}): {advice}.")


def write(image: Image, instances: Detections, output: Output, folder: Path) -> Path:
    """Write the result into `folder` (which exists) and returns its path.

    The file is `masks.zip`, `mask.png`, `overlay.*`, `cutout.*` or `annotations.json`. No
    instance is a result, too: a ZIP without masks, the untouched picture, a black mask, an empty
    list. `image.size` and `instances.size` are the same (height, width).

    Raises `InputError` where `output_format` cannot hold the size of the image, `OutputError`
    where the file cannot be written.
    """
    output.check_size(image.size)
    try:
        if output.return_zip:
            return _write_zip(image, instances, output, folder / "masks.zip")
        name, content = _one_file(image, instances, output)
        path = folder / name
        path.write_bytes(content)
        return path
    except OSError as error:
        raise unwritable(folder, error) from error


def draw(image: Image, instances: Detections, output: Output) -> Pixels:
    """Return the overlay that `output` asks for: (H, W, 3) uint8 RGB."""
    return _canvas(image, instances, output).overlay(instances)


def annotate(instances: Detections, annotation_format: str) -> dict[str, Any]:
    """Return annotations as JSON values; annotation_format: one of those but "none"."""
    return _annotations(instances, annotation_format).document()


def _one_file(image: Image, instances: Detections, output: Output) -> tuple[str, bytes]:
    if output.wants_annotations:
        return "annotations.json", _annotations(instances, output.annotation_format).encode()
    canvas = _canvas(image, instances, output)
    if output.wants_silhouette:
        return "mask.png", png.encode(canvas.silhouette())
    return next(_pictures(canvas, instances, output))


def _annotations(instances: Detections, annotation_format: str) -> Annotations:
    annotations = Annotations(instances, annotation_format)
    for mask in instances.masks():
        annotations.add(mask)
    return annotations


def _canvas(image: Image, instances: Detections, output: Output) -> Canvas:
    canvas = Canvas(image.pixels, _style(output))
    for mask in instances.masks():
        canvas.add(mask)
    return canvas


def _write_zip(image: Image, instances: Detections, output: Output, path: Path) -> Path:
    canvas = None
    if output.wants_overlay or output.wants_silhouette or output.apply_mask:
        canvas = Canvas(image.pixels, _style(output))
    annotations = None
    if output.wants_annotations:
        annotations = Annotations(instances, output.annotation_format)
    with zipfile.ZipFile(path, "w") as archive:
        consumers = [consumer.add for consumer in (canvas, annotations) if consumer]
        for index, content in enumerate(_encoded(_tee(instances.masks(), consumers), image.size)):
            _store(archive, f"mask_{index:03}.png", content)
        if canvas:
            for name, content in _pictures(canvas, instances, output):
                _store(archive, name, content)
        if annotations:
            _store(archive, "annotations.json", annotations.encode())
    return path


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
    """Return the same masks, each shown to every consumer on its way."""
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


def _store(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, ZIP_DATE)  # stored as it is: a PNG would not get smaller
    entry.create_system = 3  # Unix on every machine, or the bytes would differ
    entry.external_attr = ZIP_MODE
    archive.writestr(entry, content)
