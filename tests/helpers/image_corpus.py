"""A corpus of image files: format × mode × orientation, good and bad, made on the spot.

Each picture is a grid of flat blocks, so what a person must see is known without decoding: the
expected pixels are computed with NumPy, never read back through Pillow. All files are tiny.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pillow_heif import from_pillow

from tests.helpers.image_bombs import inflate

BLOCK = 16  # pixels; large enough that lossy codecs keep the middle of a block
ROWS, COLUMNS = 3, 4
SIZE = (ROWS * BLOCK, COLUMNS * BLOCK)  # (height, width) of every upright picture

# Twelve different colours, so that no two orientations look alike.
COLOURS = np.array(
    [
        [[230, 30, 30], [30, 200, 30], [40, 40, 220], [240, 220, 30]],
        [[20, 20, 20], [235, 235, 235], [30, 200, 210], [200, 40, 200]],
        [[128, 128, 128], [120, 70, 20], [250, 150, 180], [90, 120, 60]],
    ],
    dtype=np.uint8,
)
ALPHAS = np.array([[255, 0, 128, 255], [64, 255, 200, 0], [255, 30, 255, 100]], dtype=np.uint8)
GRAYS = np.linspace(0, 255, 12).astype(np.uint8).reshape(ROWS, COLUMNS)

# What a file of each orientation stores: the way back from upright.
STORED = {
    1: None,
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_90,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_270,
}

SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "AVIF": ".avif",
    "HEIF": ".heic",
    "PPM": ".ppm",
}


@dataclass(frozen=True)
class Recipe:
    """One way to store the scene.

    mode: of the Pillow picture that is saved, with "+" variants made by `picture`.
    slack: by how much the middle of a block may differ from what is expected, 0–255.
    """

    format: str
    mode: str
    slack: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.format}-{self.mode}{self.note}".lower()

    @property
    def orientations(self) -> range:
        """All eight where the format can say, else only the first."""
        return range(1, 9) if self.format not in ("GIF", "BMP", "PPM") else range(1, 2)


@dataclass(frozen=True)
class Case:
    """One file. `upright` is what must come out; `kind` says what else may happen.

    kind: good (must come out right), mislabelled (right, under another format's suffix),
        truncated (right or an error), corrupted (any pixels or an error), bomb (an error).
    """

    name: str
    kind: str
    suffix: str
    data: bytes
    upright: NDArray[np.uint8]
    slack: int


RECIPES = [
    Recipe("JPEG", "RGB", 6, {"quality": 95}),
    Recipe("JPEG", "RGB", 6, {"quality": 95, "progressive": True}, "-progressive"),
    Recipe("JPEG", "L", 3, {"quality": 95}),
    Recipe("JPEG", "CMYK", 8, {"quality": 95}),
    *(Recipe("PNG", m) for m in ("1", "L", "LA", "P", "P+index", "P+bytes", "RGB", "RGB+colour")),
    *(Recipe("PNG", m) for m in ("RGBA", "I;16", "L+index", "I;16+index")),
    Recipe("PNG", "RGB", 0, {"save_all": True}, "-animated"),
    *(Recipe("WEBP", m, 0, {"lossless": True, "exact": True}) for m in ("RGB", "RGBA", "L")),
    Recipe("WEBP", "RGB", 10, {"quality": 95}, "-lossy"),
    Recipe("WEBP", "RGB", 0, {"lossless": True, "save_all": True}, "-animated"),
    *(Recipe("GIF", m) for m in ("1", "L", "P", "P+index")),
    Recipe("GIF", "P", 0, {"save_all": True}, "-animated"),
    *(Recipe("BMP", m) for m in ("1", "L", "P", "RGB")),
    *(Recipe("TIFF", m) for m in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")),
    *(Recipe("TIFF", m) for m in ("I;16", "I", "F")),
    Recipe("TIFF", "LAB", 3),
    Recipe("TIFF", "YCbCr", 3),
    *(
        Recipe("TIFF", "RGB", 8 if how == "jpeg" else 0, {"compression": how}, f"-{how}")
        for how in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd")
    ),
    Recipe("TIFF", "RGB", 0, {"save_all": True}, "-pages"),
    *(
        Recipe("AVIF", m, 8, {"quality": 95, "speed": 10, "subsampling": "4:4:4"})
        for m in ("RGB", "RGBA", "L")
    ),
    *(Recipe("HEIF", m, 8, {"quality": 95}) for m in ("RGB", "RGBA", "L")),
    *(Recipe("PPM", m) for m in ("1", "L", "RGB", "I;16", "F")),
]


def cases() -> Iterator[Case]:
    """Every recipe in every orientation, and one of each bad kind for every recipe."""
    for number, recipe in enumerate(RECIPES):
        for orientation in recipe.orientations:
            yield _good(recipe, orientation)
        good = _good(recipe, recipe.orientations[number % len(recipe.orientations)])
        yield _changed(good, "mislabelled", good.data, ".png" if recipe.format != "PNG" else ".jpg")
        yield _changed(good, "truncated", good.data[: len(good.data) * 6 // 10])
        yield _changed(good, "corrupted", _corrupt(good.data, seed=number))
        yield _changed(good, "bomb", inflate(recipe.format, good.data))


def _good(recipe: Recipe, orientation: int) -> Case:
    stored, upright = picture(recipe.mode)
    turn = STORED[orientation]
    return Case(
        name=f"{recipe.name}-{orientation}-good",
        kind="good",
        suffix=SUFFIXES[recipe.format],
        data=save(stored if turn is None else stored.transpose(turn), recipe, orientation),
        upright=upright,
        slack=recipe.slack,
    )


def _changed(good: Case, kind: str, data: bytes, suffix: str | None = None) -> Case:
    return Case(
        name=good.name.replace("good", kind),
        kind=kind,
        suffix=suffix or good.suffix,
        data=data,
        upright=good.upright,
        slack=good.slack,
    )


def _corrupt(data: bytes, seed: int) -> bytes:
    """A few bytes changed, anywhere behind the magic number."""
    rng = np.random.default_rng(seed)
    array = np.frombuffer(data, dtype=np.uint8).copy()
    where = rng.integers(16, len(array), size=6)
    array[where] ^= rng.integers(1, 256, size=6).astype(np.uint8)
    return array.tobytes()


def blocks(values: NDArray[Any]) -> NDArray[Any]:
    """One value (or colour) per block → one per pixel."""
    return values.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def on_white(colours: NDArray[np.uint8], alphas: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What a viewer shows of colours with alpha on a white page, rounded."""
    alpha = alphas[..., None].astype(float) / 255
    return np.rint(colours * alpha + 255 * (1 - alpha)).astype(np.uint8)


def picture(mode: str) -> tuple[Pillow.Image, NDArray[np.uint8]]:
    """The scene in one mode, upright, and the RGB that a person must see: (H, W, 3) uint8."""
    gray = np.stack([GRAYS] * 3, axis=-1)
    if mode.startswith("P"):
        return _palette(mode)
    if mode == "1":
        black_white = np.where(GRAYS % 2 == 1, 255, 0).astype(np.uint8)
        return (
            Pillow.fromarray(blocks(black_white)).convert("1"),
            blocks(np.stack([black_white] * 3, axis=-1)),
        )
    if mode == "L+index":
        image = Pillow.fromarray(blocks(GRAYS))
        image.info["transparency"] = int(GRAYS[1, 1])
        return image, blocks(np.where(gray == GRAYS[1, 1], 255, gray).astype(np.uint8))
    if mode == "I;16+index":
        values = GRAYS.astype(np.uint16) * 257
        image = Pillow.fromarray(blocks(values))
        image.info["transparency"] = int(values[1, 1])
        return image, blocks(np.where(gray == GRAYS[1, 1], 255, gray).astype(np.uint8))
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        values = GRAYS.astype(kind) * 257 if mode != "F" else (GRAYS / 255).astype(kind)
        return Pillow.fromarray(blocks(values)), blocks(gray)
    if mode == "RGB+colour":
        image = Pillow.fromarray(blocks(COLOURS))
        image.info["transparency"] = tuple(int(c) for c in COLOURS[0, 2])
        seen = COLOURS.copy()
        seen[0, 2] = 255
        return image, blocks(seen)
    if mode == "CMYK":
        ink = np.concatenate([COLOURS, GRAYS[..., None] // 2], axis=-1)
        seen = np.rint((255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255)
        return Pillow.fromarray(blocks(ink), "CMYK"), blocks(seen.astype(np.uint8))
    if mode == "YCbCr":
        return Pillow.fromarray(blocks(COLOURS)).convert("YCbCr"), blocks(COLOURS)
    if mode == "LAB":
        return _lab()
    arrays = {
        "L": (GRAYS, gray),
        "LA": (np.stack([GRAYS, ALPHAS], axis=-1), on_white(gray, ALPHAS)),
        "RGB": (COLOURS, COLOURS),
        "RGBA": (np.concatenate([COLOURS, ALPHAS[..., None]], -1), on_white(COLOURS, ALPHAS)),
    }
    stored, seen = arrays[mode]
    return Pillow.fromarray(blocks(stored)), blocks(seen)


def _palette(mode: str) -> tuple[Pillow.Image, NDArray[np.uint8]]:
    image = Pillow.fromarray(blocks(np.arange(12, dtype=np.uint8).reshape(ROWS, COLUMNS)), "P")
    image.putpalette(COLOURS.reshape(-1).tolist())
    seen = COLOURS.copy()
    if mode == "P+index":
        image.info["transparency"] = 3
        seen[0, 3] = 255
    elif mode == "P+bytes":
        image.info["transparency"] = ALPHAS.tobytes()
        seen = on_white(COLOURS, ALPHAS)
    return image, blocks(seen)


def _lab() -> tuple[Pillow.Image, NDArray[np.uint8]]:
    """Neutral colours only: L* → gray by the definitions of CIELAB and sRGB."""
    lightness = GRAYS.astype(float) / 255 * 100
    linear = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    encoded = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, linear * 12.92)
    lab = np.stack([GRAYS, np.zeros_like(GRAYS), np.zeros_like(GRAYS)], axis=-1)  # a*, b* = 0
    seen = np.stack([np.rint(encoded * 255).astype(np.uint8)] * 3, axis=-1)
    return Pillow.fromarray(blocks(lab), "LAB"), blocks(seen)


def save(image: Pillow.Image, recipe: Recipe, orientation: int) -> bytes:
    """The stored picture as a file's content, with the orientation in its EXIF."""
    options = dict(recipe.options)
    if len(recipe.orientations) > 1 and orientation != 1:
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes() if recipe.format == "HEIF" else exif
    if options.get("save_all"):  # the later frames are wrong on purpose
        options["append_images"] = [Pillow.new(image.mode, image.size, 0)] * 2
    if "transparency" in image.info:
        options["transparency"] = image.info["transparency"]
    buffer = io.BytesIO()
    if recipe.format == "HEIF":
        from_pillow(image).save(buffer, **options)
    else:
        image.save(buffer, recipe.format, **options)
    return buffer.getvalue()
