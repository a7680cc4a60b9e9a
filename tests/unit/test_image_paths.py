"""Which paths are opened: regular files only, and under Cog only what Cog downloaded."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import pytest
from PIL import Image as Pillow

from sam3_image.decode.image import Limits, decode, open_image, require_download
from sam3_image.errors import ImageError

LIMITS = Limits()


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def test_what_is_no_regular_file_is_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it for reading would wait for ever
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to("/dev/zero")
    for path, kind in [
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a device, pipe or socket"),
        (tmp_path / "socket", "a device, pipe or socket"),
        (tmp_path / "link", "a device, pipe or socket"),
        (Path("/dev/zero"), "a device, pipe or socket"),
    ]:
        with pytest.raises(ImageError, match=f"{path.name}.* is {kind}; only regular files"):
            open_image(path, LIMITS)
    listener.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing.png", "No such file"), ("a\0b", "null byte"), ("x" * 5000, "too long")],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        open_image(tmp_path / name, LIMITS)
    assert len(str(caught.value)) < 350


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(ImageError, match="empty"):
        open_image(path, LIMITS)


def test_no_bytes_at_all_are_said_to_be_none() -> None:
    with pytest.raises(ImageError, match=r"is empty \(0 bytes\)"):
        decode(b"", Limits())


def test_a_link_to_an_image_is_read(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(png(30, 20))
    (tmp_path / "link").symlink_to("image.png")
    assert open_image(tmp_path / "link", LIMITS).size == (20, 30)


def test_only_what_cog_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp" / "folder").mkdir(parents=True)
    secret, download = tmp_path / "secret.png", tmp_path / "tmp" / "tmpabcfile.png"
    for path in (secret, download, tmp_path / "tmp" / "folder" / "deep.png"):
        path.write_bytes(png(3, 2))
    (tmp_path / "tmp" / "link").symlink_to(secret)
    os.mkfifo(tmp_path / "tmp" / "pipe")
    assert require_download(download) == download
    for value in (
        str(download),  # a string is what the client wrote, whatever it names
        str(secret),
        secret,
        tmp_path / "tmp" / "link",
        tmp_path / "tmp" / "pipe",
        tmp_path / "tmp" / "folder",
        tmp_path / "tmp" / "folder" / "deep.png",
        tmp_path / "tmp" / ".." / "secret.png",
        tmp_path / "tmp" / "folder" / ".." / "tmpabcfile.png",
        tmp_path / "tmp" / "missing",
        "file:///etc/passwd",
        "",
        None,
        5,
        ["/etc/passwd"],
    ):
        with pytest.raises(ImageError, match=r"must be an http\(s\) or data URL"):
            require_download(value)


def test_a_refusal_does_not_tell_whether_a_file_exists() -> None:
    messages = []
    for name in ("/etc/passwd", "/etc/nobody"):
        with pytest.raises(ImageError) as caught:
            require_download(name)
        messages.append(str(caught.value).replace(name, "NAME"))
    assert messages[0] == messages[1]
