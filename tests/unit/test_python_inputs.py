"""The Python API's images and prompts: every kind, from one thread and from eight; refusals."""

from __future__ import annotations

import http.server
import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import sam3_image
from sam3_image.decode import Limits, decode, from_pillow, read_input
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.second_scenes import random_picture

SHAPES = REPOSITORY / "examples" / "shapes.png"
LIMITS = Limits()
THREADS = 8


@pytest.fixture(scope="module")
def sam(weights: Path) -> Iterator[sam3_image.Sam]:
    with sam3_image.load(weights, device="cpu") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server on loopback with the example, what redirects to it, and what breaks."""
    content = SHAPES.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "/shapes.png")
                self.end_headers()
                return
            known = self.path in ("/shapes.png", "/cut", "/pe%C3%B1oles%20x.png?a%20b")
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(content) if known else 0))
            self.end_headers()
            if known:
                self.wfile.write(content[: 500 if self.path == "/cut" else None])

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def kinds(address: str) -> dict[str, Any]:
    """One object of each kind, all of the example, which is opaque RGB."""
    content = SHAPES.read_bytes()
    with Image.open(SHAPES) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    opaque = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return {
        "path": SHAPES,
        "text": str(SHAPES),
        "address": f"{address}/shapes.png",
        "redirected": f"{address}/moved",
        "as a browser shows it": f"{address.upper()}/peñoles x.png?a b",
        "bytes": content,
        "bytearray": bytearray(content),
        "memoryview": memoryview(content),
        "BytesIO": io.BytesIO(content),
        "file": SHAPES.open("rb"),
        "raw file": SHAPES.open("rb", buffering=0),
        "lazy Pillow": Image.open(SHAPES),
        "Pillow": Image.fromarray(pixels),
        "RGB": pixels,
        "RGB turned": np.asfortranarray(pixels),
        "BGR reversed": pixels[..., ::-1].copy()[..., ::-1],
        "RGBA": opaque,
        "tensor CHW": torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous(),
        "tensor HWC": torch.from_numpy(pixels.copy()),
    }


def test_every_kind_from_eight_threads_is_the_same_picture(
    sam: sam3_image.Sam, address: str
) -> None:
    expected = sam.find(SHAPES, "star", input_size_percent=50)
    assert len(expected)

    def find(image: Any) -> sam3_image.Instances:
        return sam.find(image, "star", input_size_percent=50)

    for kind, image in kinds(address).items():
        with ThreadPoolExecutor(THREADS) as pool:
            found = list(pool.map(find, [image] * THREADS))
        for each in found:
            assert np.array_equal(each.image.pixels, expected.image.pixels), kind
            assert np.array_equal(each.masks(), expected.masks()), kind
            assert np.array_equal(each.scores, expected.scores), kind


def test_a_reference_is_of_every_kind_too(sam: sam3_image.Sam, address: str) -> None:
    second = random_picture(3)[0]
    answers = [
        sam.find(second, reference_image=image, reference_boxes=[[43, 43, 157, 157]], threshold=0.1)
        for image in kinds(address).values()
    ]
    for answer in answers:
        assert np.array_equal(answer.scores, answers[0].scores)
        assert np.array_equal(answer.masks(), answers[0].masks())


def test_gray_is_gray_and_transparency_lies_on_white(sam: sam3_image.Sam) -> None:
    rng = np.random.default_rng(0)
    for height, width in rng.integers(1, 90, (20, 2)):
        gray = rng.integers(0, 256, (height, width), dtype=np.uint8)
        given = read_input(gray, LIMITS)
        assert np.array_equal(given, np.stack([gray] * 3, axis=-1))
        clear = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(clear).save(buffer, "PNG")
        assert np.array_equal(read_input(clear, LIMITS), decode(buffer.getvalue(), LIMITS).pixels)
    gray = np.asarray(Image.open(SHAPES).convert("L"))
    assert sam.find(gray, "circle").size == gray.shape


def test_a_tensor_with_three_rows_of_three_columns_is_read_as_channels_first() -> None:
    tensor = torch.arange(3 * 5 * 3, dtype=torch.uint8).reshape(3, 5, 3)
    given = read_input(tensor, LIMITS)
    assert np.array_equal(given, tensor.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("seed", range(6))
def test_a_list_gives_a_list(sam: sam3_image.Sam, seed: int) -> None:
    images = [random_picture(seed * 3 + index)[0] for index in range(3)]
    together = sam.find([images[0], np.asarray(images[1]), images[2]], ["star", "circle"])
    assert isinstance(together, list)
    for image, found in zip(images, together, strict=True):
        alone = sam.find(image, ["star", "circle"])
        assert np.array_equal(found.masks(), alone.masks())
        assert np.array_equal(found.scores, alone.scores)
    assert [len(one) for one in sam.pick(tuple(images), points=[[40, 40]])] == [1, 1, 1]
    assert sam.find([], "star") == []


def _encoded(pixels: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(pixels)
    if form == "GIF":
        picture = picture.convert("L")
    picture.save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_a_lazy_pillow_image_is_loaded_once_whichever_thread_comes_first(form: str) -> None:
    rng = np.random.default_rng(7)
    for _ in range(6):
        height, width = rng.integers(60, 900, 2)
        content = _encoded(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), form)
        expected = decode(content, LIMITS).pixels
        lazy, start = Image.open(io.BytesIO(content)), threading.Barrier(THREADS)

        def read(image: Image.Image = lazy, start: threading.Barrier = start) -> np.ndarray:
            start.wait()
            return from_pillow(image, LIMITS).pixels

        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(read) for _ in range(THREADS)]
            for future in futures:
                assert np.array_equal(future.result(), expected)


def _late_exif(content: bytes) -> bytes:
    """The same PNG with its eXIf chunk after the pixels."""
    chunks, at = [], 8
    while at < len(content):
        length = int.from_bytes(content[at : at + 4], "big") + 12
        chunks.append(content[at : at + length])
        at += length
    early = [chunk for chunk in chunks if chunk[4:8] == b"eXIf"]
    rest = [chunk for chunk in chunks if chunk[4:8] != b"eXIf"]
    return content[:8] + b"".join([*rest[:-1], *early, rest[-1]])


def _exif(orientation: int, kind: int, order: str, count: int = 1) -> bytes:
    """EXIF whose one tag is the orientation, stored as that TIFF type."""
    length = {1: 1, 3: 2, 4: 4, 8: 2, 9: 4, 13: 4}[kind]
    tag = (0x0112).to_bytes(2, order) + kind.to_bytes(2, order) + count.to_bytes(4, order)
    values = orientation.to_bytes(length, order) * count
    value = values.ljust(4, b"\0") if len(values) <= 4 else (26).to_bytes(4, order)
    start = b"II*\0" + (8).to_bytes(4, "little") if order == "little" else b"MM\0*\0\0\0\x08"
    return b"Exif\0\0" + start + (1).to_bytes(2, order) + tag + value + bytes(4) + values


@pytest.mark.filterwarnings("ignore:Metadata Warning")
@pytest.mark.parametrize("seed", range(40))
def test_the_orientation_is_what_exif_transpose_applies(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (*rng.integers(1, 40, 2), 3), dtype=np.uint8)
    exif = _exif(
        int(rng.integers(0, 11)),
        int(rng.choice([1, 3, 4, 8, 9, 13])),
        str(rng.choice(["little", "big"])),
        int(rng.choice([1, 1, 1, 2])),
    )
    form = str(rng.choice(["PNG", "JPEG", "WEBP"]))
    buffer = io.BytesIO()
    options = {"lossless": True} if form == "WEBP" else {}
    Image.fromarray(pixels).save(buffer, form, exif=exif, **options)
    contents = [buffer.getvalue()]
    if form == "PNG":
        contents.append(_late_exif(contents[0]))
    for content in contents:
        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
        assert np.array_equal(decode(content, LIMITS).pixels, upright)
        lazy = Image.open(io.BytesIO(content))
        for _ in range(2):  # the second time it is loaded
            assert np.array_equal(from_pillow(lazy, LIMITS).pixels, upright)
        changed = Image.open(io.BytesIO(content))
        changed.getexif()[0x0112] = int(rng.integers(1, 9))
        upright = np.asarray(ImageOps.exif_transpose(changed))
        assert np.array_equal(from_pillow(changed, LIMITS).pixels, upright)
        drawn = Image.fromarray(pixels)
        drawn.getexif()[0x0112] = int(rng.integers(1, 9))
        upright = np.asarray(ImageOps.exif_transpose(drawn))
        assert np.array_equal(from_pillow(drawn, LIMITS).pixels, upright)


def test_junk_as_orientation_is_ignored() -> None:
    pixels = np.zeros((3, 5, 3), dtype=np.uint8)
    for junk in ("6", [6], None, 99, -1, b"\x06"):
        picture = Image.fromarray(pixels)
        picture.getexif()[0x0112] = junk
        assert from_pillow(picture, LIMITS).size == (3, 5)


def test_a_result_keeps_the_picture_that_it_was_asked_about(sam: sam3_image.Sam) -> None:
    with Image.open(SHAPES) as picture:
        original = np.array(picture.convert("RGB"))
    contiguous = original.copy()
    shared = torch.from_numpy(original.copy())
    for image in (contiguous, shared, shared.clone().permute(2, 0, 1)):
        found = sam.find(image, "star")
        before = found.overlay()
        image[:] = 0
        assert np.array_equal(found.overlay(), before)
        assert np.array_equal(found.image.pixels, original)


DTYPES = [
    *("bool", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64"),
]


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("high", [1, 200, 60000])
def test_the_line_in_a_refusal_converts_the_array(library: str, dtype: str, high: int) -> None:
    rng = np.random.default_rng(high)
    values = rng.random((7, 9, 3)) * high
    values.flat[:2] = 0, high
    top = 1 if dtype == "bool" else high
    if dtype not in ("bool", "float16", "float32", "float64"):
        top = min(high, np.iinfo(dtype).max)
    array = np.minimum(values, top).astype(dtype)
    image: Any = array if library == "numpy" else torch.from_numpy(array)
    if library == "numpy" and dtype == "uint16":  # 16 bits have a range of their own
        assert np.array_equal(read_input(image, LIMITS), image)
        return
    with pytest.raises(sam3_image.ImageError) as caught:
        read_input(image, LIMITS)
    message = str(caught.value)
    assert "\n" not in message
    assert dtype in message
    names = {"image": image, "torch": torch, "np": np}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(message[message.index("image = ") :], names)
    converted = read_input(names["image"], LIMITS)
    assert isinstance(converted, np.ndarray)
    assert converted.shape == (7, 9, 3)
    brightest = 233 if dtype == "uint16" and top == 60000 else top if 1 < top < 255 else 255
    assert converted.max() == brightest  # 16 bits keep their own white
    order = np.argsort(array, axis=None, kind="stable")
    assert (np.diff(converted.ravel()[order].astype(int)) >= 0).all(), "brighter stays brighter"


def _closed_file() -> Any:
    file = SHAPES.open("rb")
    file.close()
    return file


def _closed_pillow() -> Image.Image:
    with Image.open(SHAPES) as picture:
        pass
    return picture


U8 = np.uint8
REFUSED: list[tuple[Callable[[str], Any], list[str]]] = [
    (lambda _: 5, ["image is 5", "a path"]),
    (lambda _: None, ["image is None"]),
    (lambda _: {"a": 1}, ["image is {'a': 1}"]),
    (lambda _: b"", ["0 bytes"]),
    (lambda _: b"photo.jpg", ["Not a supported image"]),
    (lambda _: "no such file.png", ["no such file.png", "cannot be read"]),
    (lambda _: "a\0b", ["cannot be read"]),
    (lambda address: f"{address}/missing", ["/missing", "404", "Not Found"]),
    (lambda address: f"{address}/cut", ["/cut", "cannot be fetched"]),
    (lambda _: "http://127.0.0.1:1/x.png", ["127.0.0.1:1", "refused"]),
    (lambda _: "http://user:secret@127.0.0.1:1/x.png", ["cannot be fetched"]),
    (lambda _: "https://", ["cannot be fetched"]),
    (lambda _: "http://[::/x", ["cannot be fetched"]),
    (lambda _: "http://ä..b/x", ["cannot be fetched"]),
    (lambda _: "s3://bucket/x.png", ["s3://bucket/x.png", "http:// and https://"]),
    (lambda _: io.StringIO("text"), ["binary mode"]),
    (lambda _: _closed_file(), ["cannot be read", "closed"]),
    (lambda _: _closed_pillow(), ["Pillow image", "open it again"]),
    (lambda _: np.zeros((3, 40, 50), U8), ["(3, 40, 50)", "image.transpose(1, 2, 0)"]),
    (lambda _: np.zeros((40, 50, 1), U8), ["(40, 50, 1)", "image[..., 0]"]),
    (lambda _: np.zeros((2, 40, 50, 3), U8), ["list(image)"]),
    (lambda _: np.zeros((40, 50, 2), U8), ["(height, width, 4)"]),
    (lambda _: np.zeros(40, U8), ["(height, width)"]),
    (lambda _: np.zeros((0, 4, 3), U8), ["at least 1"]),
    (lambda _: np.array(["a"]), ["<U1"]),
    (lambda _: np.array([None]), ["object"]),
    (lambda _: np.full((4, 4, 3), np.nan), ["not finite"]),
    (lambda _: np.zeros((4, 4), complex), ["complex128"]),
    (lambda _: torch.zeros(1, 40, 50, dtype=torch.uint8), ["image.expand(3, -1, -1)"]),
    (lambda _: torch.zeros(2, 3, 40, 50, dtype=torch.uint8), ["list(image)"]),
    (lambda _: torch.zeros(40, 50, dtype=torch.uint8), ["(3, height, width)"]),
    (lambda _: torch.zeros(3, 4, 5, dtype=torch.bfloat16), ["bfloat16", ".to(torch.uint8)"]),
    (lambda _: torch.zeros(3, 4, 5, dtype=torch.complex64), ["complex64"]),
    (lambda _: torch.zeros(3, 4, 5, dtype=torch.uint8, device="meta"), ["dense"]),
    (lambda _: torch.zeros(3, 4, 5, dtype=torch.uint8).to_sparse(), ["dense"]),
    (lambda _: [SHAPES, 5], ["image[1] is 5"]),
    (lambda _: [SHAPES, np.zeros((4, 4, 3))], ["image[1] is an array of float64"]),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_what_is_no_image_is_refused_in_one_line(
    sam: sam3_image.Sam, address: str, case: int
) -> None:
    make, words = REFUSED[case]
    with pytest.raises(sam3_image.InputError) as caught:
        sam.find(make(address), "star")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 420
    assert "secret" not in message
    assert all(word in message for word in words), message


def test_an_address_obeys_the_limit_of_bytes(address: str) -> None:
    small = Limits(bytes=1000)
    for image in (f"{address}/shapes.png", io.BytesIO(SHAPES.read_bytes())):
        content = read_input(image, small)
        assert isinstance(content, bytes)
        assert len(content) > 1000, "so that it is refused"
        with pytest.raises(sam3_image.ImageError, match="at most 1,000"):
            decode(content, small)


# Prompts


def forms(rows: list[Any]) -> dict[str, Any]:
    """The same numbers in every kind of list, array and scalar."""
    return {
        "lists": rows,
        "tuples": tuple(tuple(row) if isinstance(row, list) else row for row in rows),
        "array": np.array(rows),
        "float32": np.array(rows, dtype=np.float32),
        "rows": [np.array(row) if isinstance(row, list) else np.int64(row) for row in rows],
        "scalars": [
            [np.float32(value) for value in row] if isinstance(row, list) else np.int8(row)
            for row in rows
        ],
        "tensor": torch.tensor(rows),
        "tensors": [torch.tensor(row) for row in rows],
        "text": re.sub(r"\s", "", str(rows)),
    }


@pytest.mark.parametrize("seed", range(5))
def test_boxes_points_and_labels_in_any_list_mean_the_same(sam: sam3_image.Sam, seed: int) -> None:
    image, objects = random_picture(seed + 5)
    boxes = [[float(round(value)) for value in one.box] for one in objects[:2]]
    labels = [1, 0][: len(boxes)]
    expected = sam.find(image, boxes=boxes, box_labels=labels, threshold=0.1)
    for kind, given in forms(boxes).items():
        found = sam.find(image, boxes=given, box_labels=labels, threshold=np.float64(0.1))
        assert np.array_equal(found.scores, expected.scores), kind
        assert np.array_equal(found.masks(), expected.masks()), kind
    points = [[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] for box in boxes]
    picked = sam.pick(image, points=points, point_labels=labels)
    for kind, given in forms(points).items():
        if kind != "float32":  # half pixels of these sizes are exact in float32 too
            assert np.array_equal(sam.pick(image, given, labels).masks(), picked.masks()), kind
    bools = [bool(label) for label in labels]
    labelings = {
        "bools": bools,
        "bool array": np.array(bools),
        "bool tensor": torch.tensor(bools),
        **{kind: given for kind, given in forms(labels).items() if kind != "float32"},
    }
    for kind, given in labelings.items():
        assert np.array_equal(sam.pick(image, points, given).masks(), picked.masks()), kind
        found = sam.find(image, boxes=boxes, box_labels=given, threshold=0.1)
        assert np.array_equal(found.scores, expected.scores), kind


def test_a_text_has_three_spellings(sam: sam3_image.Sam) -> None:
    expected = sam.find(SHAPES, "star")
    for found in (
        sam.find(SHAPES, prompt="star"),
        sam.find(SHAPES, prompts=["star"]),
        sam.find(SHAPES, ["star"]),
        sam.find(SHAPES, ("star",)),
        sam.find(SHAPES, np.array(["star"])),
        sam.find(SHAPES, np.str_("star")),
        sam.find(SHAPES, "star", boxes=None, prompts=None, prompt=None, threshold=None),
    ):
        assert np.array_equal(found.masks(), expected.masks())
        assert found.concepts == expected.concepts


def test_exemplars_alone_find_examples(sam: sam3_image.Sam) -> None:
    box = [43, 43, 157, 157]
    assert set(sam.find(SHAPES, boxes=[box]).concepts) == {"example"}
    tiled = sam.find(SHAPES, boxes=[box], tile_size=300)
    assert set(tiled.concepts) == {"example"}
    other = sam.find(SHAPES, reference_image=SHAPES, reference_boxes=[box])
    assert set(other.concepts) == {"example"}
    assert {one["name"] for one in other.to_coco()["categories"]} == {"example"}
    assert set(sam.find(SHAPES, "circle", boxes=[box]).concepts) == {"circle"}
    assert set(sam.find(SHAPES, "visual", threshold=0.0).concepts) == {"visual"}


Call = Callable[[sam3_image.Sam], Any]
WRONG_CALLS: list[tuple[Call, list[str]]] = [
    (lambda sam: sam.find(SHAPES, "circle", prompt="star"), ["'circle'", "'star'", "one of them"]),
    (lambda sam: sam.find(SHAPES, "circle", prompts=["star"]), ["'circle'", "'star'"]),
    (lambda sam: sam.find(SHAPES, prompt="a", prompts=["b"]), ["prompt", "prompts"]),
    (lambda sam: sam.find(SHAPES, boxes=None), ["nothing to look for"]),
    (lambda sam: sam.find(SHAPES, prompt=None), ["nothing to look for"]),
    (lambda sam: sam.find(SHAPES, reference_boxes=None), ["nothing to look for"]),
    (lambda sam: sam.find(SHAPES, tile_size=200), ["nothing to look for"]),
    (lambda sam: sam.find(SHAPES, 5), ["concepts is 5", "a text"]),
    (lambda sam: sam.find(SHAPES, ["a", 5]), ["concepts is ['a', 5]"]),
    (lambda sam: sam.find(SHAPES, [[1, 2]]), ["concepts is [[1, 2]]", "pick"]),
    (lambda sam: sam.find(SHAPES, b"star"), ["concepts is b'star'"]),
    (lambda sam: sam.find(SHAPES, []), ["0 entries"]),
    (lambda sam: sam.find(SHAPES, prompt=5), ["prompt is 5"]),
    (lambda sam: sam.find(SHAPES, prompts="star"), ["prompts is 'star'"]),
    (lambda sam: sam.find(SHAPES, boxes=[[1, 2, np.nan, 4]]), ["nan"]),
    (lambda sam: sam.find(SHAPES, boxes=torch.zeros(2, 2)), ["boxes[0]"]),
    (lambda sam: sam.find(SHAPES, "star", return_zip=False), ["return_zip", "found.save"]),
    (lambda sam: sam.pick(SHAPES, "red circle"), ["'red circle'", "find(image, 'red circle')"]),
    (lambda sam: sam.pick(SHAPES, ["star", "ring"]), ["find(image, ['star', 'ring'])"]),
    (lambda sam: sam.pick(SHAPES, prompt="star"), ["find(image, 'star')"]),
    (lambda sam: sam.pick(SHAPES, concepts="star"), ["find(image, 'star')"]),
    (lambda sam: sam.pick(SHAPES, [[300, 300]], [2]), ["point_labels[0] is 2"]),
    (lambda sam: sam.pick(SHAPES, [[300, 300]], [0.5]), ["point_labels[0] is 0.5"]),
    (lambda sam: sam.pick(SHAPES, [[True, 3]]), ["points[0][0] is True"]),
    (lambda sam: sam.pick(SHAPES, points=5), ["points is 5"]),
    (lambda _: sam3_image.load(7), ["weights is 7"]),  # type: ignore[arg-type]
    (lambda _: sam3_image.load("weights/demo", device=0), ["device is 0"]),  # type: ignore[arg-type]
    (lambda _: sam3_image.load(REPOSITORY / "weights/demo", dtype=torch.int64), ["int64"]),
    (lambda _: sam3_image.load(REPOSITORY / "weights/demo", torch.device("meta")), ["meta"]),
]


@pytest.mark.parametrize("case", range(len(WRONG_CALLS)))
def test_a_wrong_call_is_refused_in_one_line(sam: sam3_image.Sam, case: int) -> None:
    call, words = WRONG_CALLS[case]
    with pytest.raises(sam3_image.UserError) as caught:
        call(sam)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_model_says_what_it_is_and_can_be_closed(weights: Path) -> None:
    with sam3_image.load(weights, device=torch.device("cpu"), dtype=torch.float32) as sam:
        assert repr(sam) == "<Sam demo on cpu in float32>"
        found = sam.find(SHAPES, "star")
    assert "closed" in repr(sam)
    sam.close()
    for call in (lambda: sam.find(SHAPES, "star"), lambda: sam.pick(SHAPES, [[3, 3]])):
        with pytest.raises(sam3_image.UserError, match=r"closed; load it again"):
            call()
    assert found.masks().any(), "results live on"


def test_closing_while_threads_ask_gives_results_or_one_line(weights: Path) -> None:
    sam = sam3_image.load(weights, device="cpu")
    images = [random_picture(seed)[0] for seed in range(24)]
    begun = threading.Semaphore(0)

    def ask(image: Image.Image) -> str:
        begun.release()
        try:
            return f"{len(sam.find(image, 'star', input_size_percent=25)) >= 0}"
        except sam3_image.UserError as error:
            return str(error)

    with ThreadPoolExecutor(THREADS) as pool:
        answers = [pool.submit(ask, image) for image in images]
        for _ in range(THREADS + 2):
            begun.acquire()
        sam.close()
    outcomes = {answer.result() for answer in answers}
    assert outcomes == {"True", "This model was closed; load it again with sam3_image.load()."}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"device": "quantum"}, ["device is 'quantum'", "Leave it out"]),
        ({"dtype": "int3"}, ["dtype is 'int3'", "Leave it out"]),
        ({"reference": "x"}, ["reference is 'x'", "Leave it out"]),
    ],
)
def test_load_names_the_argument_that_is_wrong(
    given: dict[str, str], words: list[str], weights: Path
) -> None:
    with pytest.raises(sam3_image.UserError) as caught:
        sam3_image.load(weights, **given)
    assert all(word in str(caught.value) for word in words)
    assert "SAM3_" not in str(caught.value), "a variable that the caller has not set"
