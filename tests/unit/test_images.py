"""The door for untrusted files: which are read, which refused, and with which sentence."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image as Pillow
from pillow_heif import from_pillow

from sam3_image.decode import formats
from sam3_image.decode.image import Limits, decode, open_image
from sam3_image.decode.limits import available_memory
from sam3_image.errors import ImageError, MemoryLimitError, UserError
from sam3_image.settings import Settings
from tests.helpers import image_bombs, image_corpus
from tests.helpers.cog_server import REPOSITORY
from tests.helpers.tiff_writer import Layout, write
from tests.unit.test_value_range import png16

LIMITS = Limits()
OVERHEAD = 32_000_000  # bytes that decoding may take beside what grows with the image


def encoded(picture: Pillow.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    if form == "HEIF":
        from_pillow(picture).save(buffer, **options)
    else:
        picture.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int) -> bytes:
    return encoded(Pillow.new("L", (width, height)), "PNG")


def refusal(data: bytes, limits: Limits = LIMITS) -> str:
    """The message of the ImageError that the content must raise."""
    with pytest.raises(ImageError) as caught:
        decode(data, limits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def costs(files: Iterable[Path], room: int | None = None) -> dict[str, dict[str, Any]]:
    """What `peak_memory` says of each file, by name."""
    command = [sys.executable, "-m", "tests.helpers.peak_memory"]
    command += [] if room is None else ["--room", str(room)]
    done = subprocess.run(
        [*command, *map(str, files)], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return {answer["name"]: answer for answer in map(json.loads, done.stdout.splitlines())}


# Limits


def test_each_limit_holds_exactly() -> None:
    assert decode(png(30, 20), Limits(pixels=600, side=30)).size == (20, 30)
    over = refusal(png(30, 20), Limits(pixels=599))
    assert all(part in over for part in ("30 × 20", "600", "599", "SAM3_MAX_PIXELS"))
    over = refusal(png(30, 20), Limits(side=29))
    assert all(part in over for part in ("30 × 20", "29", "SAM3_MAX_SIDE"))
    data = png(30, 20)
    decode(data, Limits(bytes=len(data)))
    over = refusal(data, Limits(bytes=len(data) - 1))
    assert all(part in over for part in (str(len(data)), str(len(data) - 1), "SAM3_MAX_BYTES"))


def test_defaults_accept_a_hundred_megapixels(tmp_path: Path) -> None:
    if available_memory() < 2_000_000_000:
        # The promise is for machines with the memory: the picture takes a third of a gigabyte,
        # and a machine that swaps would not fail but stand still.
        pytest.skip("this machine has not the memory for it")
    path = tmp_path / "large.jpg"
    path.write_bytes(encoded(Pillow.new("L", (12_000, 9_000)), "JPEG"))
    assert open_image(path, LIMITS).size == (9_000, 12_000)


def test_limits_from_the_environment() -> None:
    assert Limits.of(Settings.from_environment({})) == Limits()
    assert Limits.of(Settings.from_environment({"SAM3_MAX_PIXELS": ""})) == Limits()
    given = {"SAM3_MAX_PIXELS": "1_000", "SAM3_MAX_SIDE": "50", "SAM3_MAX_BYTES": " 7 "}
    assert Limits.of(Settings.from_environment(given)) == Limits(pixels=1000, side=50, bytes=7)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e9", "1000000001", "1.5", "9" * 5000])
def test_a_bad_limit_is_named(text: str) -> None:
    with pytest.raises(UserError, match=r"SAM3_MAX_SIDE is .* from 1 to 1,000,000,000") as caught:
        Limits.of(Settings.from_environment({"SAM3_MAX_SIDE": text}))
    assert len(str(caught.value)) < 200


def test_a_bomb_is_refused_at_once_and_costs_nothing(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(image_bombs.huge_png(30_000))
    assert bomb.stat().st_size < 300_000
    cost = costs([bomb])["bomb.png"]
    assert "900,000,000 pixels" in cost["error"]
    assert cost["seconds"] < 1
    assert cost["peak"] < 8_000_000  # its pixels are 900 MB


# Memory


def test_peak_memory_is_as_stated(tmp_path: Path) -> None:
    """Each format's worst usual case against `Format.cost`, which the memory check relies on."""
    rng = np.random.default_rng(0)
    noise = Pillow.fromarray(rng.integers(0, 255, (60, 80, 4), dtype=np.uint8))
    rgba = noise.resize((2400, 1800))
    rgb = rgba.convert("RGB")
    small = rgb.resize((1200, 900))
    turned = Pillow.Exif()
    turned[0x0112] = 6
    files = {
        "jpeg.jpg": (formats.JPEG, rgb, "JPEG", {"exif": turned}),
        "progressive.jpg": (
            formats.JPEG,
            rgb.convert("CMYK"),
            "JPEG",
            {"progressive": True, "quality": 95, "subsampling": 0},
        ),
        "png.png": (formats.PNG, rgba, "PNG", {"exif": turned, "compress_level": 1}),
        "gif.gif": (formats.GIF, rgb.convert("P"), "GIF", {"transparency": 0}),
        "bmp.bmp": (formats.BMP, rgb, "BMP", {}),
        "ppm.ppm": (formats.PPM, rgb, "PPM", {}),
        "tiff.tif": (formats.TIFF, rgba, "TIFF", {"exif": turned, "compression": "packbits"}),
        "float.tif": (formats.TIFF, rgb.convert("F"), "TIFF", {}),
        "webp.webp": (formats.WEBP, rgba, "WEBP", {"method": 0}),
        "avif.avif": (formats.AVIF, small.convert("RGBA"), "AVIF", {"speed": 10}),
        "heic.heic": (formats.HEIC, small, "HEIF", {}),
    }
    for name, (_, picture, form, options) in files.items():
        (tmp_path / name).write_bytes(encoded(picture, form, **options))
    answers = costs(tmp_path / name for name in files)
    for name, (form, picture, *_) in files.items():
        length = (tmp_path / name).stat().st_size
        allowed = form.cost * picture.width * picture.height + length + OVERHEAD
        assert "error" not in answers[name]
        assert answers[name]["peak"] <= allowed, name


def test_peak_memory_is_as_claimed(tmp_path: Path) -> None:
    """Files that this project reads by itself say what they take, by their layout."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 65535, (1500, 2000, 4), dtype=np.uint16)
    one_strip = {"compression": 8, "predictor": 2, "rows": 1500}
    files = {
        "chunky.tif": write(values[..., :3]),
        "strip.tif": write(values[..., :3], Layout(**one_strip)),
        "alpha.tif": write(values, Layout(extra=(2,), tile=(256, 256), compression=8)),
        "packed.tif": write(values[..., :1] >> 4, Layout(photometric=1, bits=12, rows=1500)),
        "double.tif": write(values[..., :3].astype(np.float64), Layout(planar=True)),
        "rgb.png": png16(values[..., :3], 2),
        "alpha.png": png16(values, 6, interlaced=True),
    }
    claimed: dict[str, int] = {}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MemoryLimitError):
            decode(data, LIMITS, lambda needed, _, name=name: claimed.setdefault(name, needed))
    for name, cost in costs(tmp_path / name for name in files).items():
        assert "error" not in cost
        assert cost["peak"] <= claimed[name] + len(files[name]), name


def test_too_little_memory_is_said_and_the_next_image_works(tmp_path: Path) -> None:
    for side in (50, 8_000):
        (tmp_path / f"{side}.png").write_bytes(png(side, side))
    names = ["8000.png", "50.png"]
    answers = costs([tmp_path / name for name in names], room=100_000_000)
    assert answers["8000.png"]["error"].startswith("MemoryLimitError: Decoding the PNG")
    assert answers["50.png"]["size"] == [50, 50]


def test_available_memory_is_the_smallest_rest(tmp_path: Path) -> None:
    """The limits of version 2: of a container, whose group is the root that it sees."""
    nowhere = tmp_path / "nowhere"
    machine = available_memory(tmp_path, nowhere)
    assert 0 < machine <= psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500\n")
    assert available_memory(tmp_path, nowhere) > 1500
    (tmp_path / "memory.max").write_text("1500\n")
    assert available_memory(tmp_path, nowhere) == 1000
    # Files in a tmpfs count as "file", and are not given back.
    stat = "anon 400\nfile 300\nactive_file 60\ninactive_file 40\nkernel 0\n"
    (tmp_path / "memory.stat").write_text(stat)
    assert available_memory(tmp_path, nowhere) == 1100


@pytest.mark.parametrize("limited", ["unit", "unit/worker"])
def test_a_limit_above_this_process_counts(tmp_path: Path, limited: str) -> None:
    """As systemd's MemoryMax sets it, on a group below the root."""
    own = tmp_path / "own"
    own.write_text("1:cpu,cpuacct:/elsewhere\n0::/unit/worker\n")
    (tmp_path / "unit" / "worker").mkdir(parents=True)
    for folder in (tmp_path / "unit", tmp_path / "unit" / "worker"):
        (folder / "memory.current").write_text("500\n")
        (folder / "memory.max").write_text("max\n")
    (tmp_path / limited / "memory.max").write_text("1500\n")
    assert available_memory(tmp_path, own) == 1000


@pytest.mark.parametrize("path", ["/", "/docker/123"])
def test_limits_of_version_1(tmp_path: Path, path: str) -> None:
    """A container sees its own group as the root, and in `own` perhaps the host's path to it."""
    own = tmp_path / "own"
    own.write_text(f"9:name=systemd:/x\n4:memory:{path}\n0::/\n")
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # no limit
    (folder / "memory.usage_in_bytes").write_text("900\n")
    assert available_memory(tmp_path, own) > 10_000
    (folder / "memory.limit_in_bytes").write_text("2000\n")
    stat = "cache 7\nactive_file 1\ninactive_file 2\ntotal_active_file 30\ntotal_inactive_file 70\n"
    (folder / "memory.stat").write_text(stat)
    assert available_memory(tmp_path, own) == 1200


# Formats

STRANGERS = {
    "PDF": b"%PDF-1.7\n",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "EPS with a preview": b"\xc5\xd0\xd3\xc6" + bytes(28),
    "PSD": b"8BPS\x00\x01",
    "JPEG 2000": b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    "JPEG XL": b"\xff\x0a\xfa\x7f",
    "plain-text PPM": b"P3\n1 1\n255\n0 0 0\n",
    "SVG": b'\xef\xbb\xbf <?xml version="1.0"?><svg/>',
    "HTML": b"\n<!DOCTYPE html><html>",
    "video": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41",
    "ZIP": b"PK\x03\x04\x14\x00",
    "DICOM": bytes(128) + b"DICM",
    "WMF": b"\xd7\xcd\xc6\x9a",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_strangers_are_refused_by_name(name: str) -> None:
    message = refusal(STRANGERS[name] + bytes(200))
    assert name.removesuffix(" with a preview") in message
    assert "not accepted; accepted are JPEG, PNG" in message


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello", b"\xff\xd8", bytes(1000), b"\x80\x04pickle"]
)
def test_what_is_nothing_we_know(data: bytes) -> None:
    assert "accepted are JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, HEIC" in refusal(data)


def test_refused_content_is_not_repeated() -> None:
    """The file may come from an address that only the server can reach."""
    assert "secret" not in refusal(b"the secret of the house\n" * 10)


def test_every_cut_of_a_file_is_refused_or_right() -> None:
    """Of each format, truncated at every 7th byte."""
    for recipe in image_corpus.RECIPES:
        whole = image_corpus.save(image_corpus.picture(recipe.mode)[0], recipe, 1)
        right = decode(whole, LIMITS).pixels
        for length in range(0, len(whole), max(7, len(whole) // 60)):
            try:
                image = decode(whole[:length], LIMITS)
            except ImageError:
                continue
            assert np.array_equal(image.pixels, right), f"{recipe.name} cut at {length}"


def test_threads_do_not_disturb_each_other(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff is silenced through the process's own descriptor, which must come back."""
    recipe = next(r for r in image_corpus.RECIPES if r.name == "tiff-rgb-tiff_lzw")
    picture, seen = image_corpus.picture("RGB")
    good = image_corpus.save(picture, recipe, 1)
    bad = good[:12] + bytes(200) + good[212:]
    results: list[bool] = []

    def work() -> None:
        for _ in range(20):
            results.append(np.array_equal(decode(good, LIMITS).pixels, seen))
            with pytest.raises(ImageError):
                decode(bad, LIMITS)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"still here")
    assert results == [True] * 80
    assert capfd.readouterr().err == "still here"
