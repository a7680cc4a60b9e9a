"""What a SOURCE names, and how each image of it is read."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sam3_image.batch import reader
from sam3_image.batch.reader import ImageReader, Item, SourceRoot, UnreachableError
from sam3_image.batch.sources import ImageSource
from sam3_image.batch.storage import SourceError
from sam3_image.decode import Limits
from sam3_image.errors import ImageError


def png(number: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (number, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them below, a hidden one, and something else."""
    top = tmp_path / "pictures"
    (top / "below").mkdir(parents=True)
    for name in ("b.png", "below/a.JPG", ".hidden.png"):
        (top / name).write_bytes(png())
    (top / "notes.txt").write_text("no image")
    return top


@pytest.fixture
def site(folder: Path) -> Iterator[str]:
    """A web server with the folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if "broken" in self.path:
                self.send_error(503)
            else:
                super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def uris(source: ImageSource) -> list[str]:
    return list(source.items)


def test_a_folder_and_what_is_below_it(folder: Path) -> None:
    source = ImageSource(str(folder))
    assert uris(source) == [str(folder / "b.png"), str(folder / "below/a.JPG")]
    assert source.others == 1


def test_names_do_not_depend_on_where_one_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert uris(ImageSource(".")) == uris(ImageSource(str(folder)))
    assert uris(ImageSource("./b.png")) == [str(folder / "b.png")]


def test_a_glob_takes_what_it_matches_whatever_it_is_called(folder: Path) -> None:
    assert uris(ImageSource(f"{folder}/**/a.*")) == [str(folder / "below/a.JPG")]
    assert uris(ImageSource(f"{folder}/n*")) == [str(folder / "notes.txt")]


def test_a_text_list_counts_what_is_named_again(folder: Path) -> None:
    (folder / "list.txt").write_text("b.png\n\nhttps://example.com/x.jpg\n./b.png\n")
    source = ImageSource(str(folder / "list.txt"))
    assert uris(source) == [str(folder / "b.png"), "https://example.com/x.jpg"]
    assert source.repeated == 1


def test_a_parquet_column(folder: Path) -> None:
    path = folder / "list.parquet"
    pq.write_table(pa.table({"id": [1, 2], "where": ["b.png", None], "uri": ["x.png", "y"]}), path)
    assert uris(ImageSource(str(path))) == [str(folder / "x.png"), str(folder / "y")]
    assert uris(ImageSource(str(path), "where")) == [str(folder / "b.png")]
    with pytest.raises(SourceError, match="no column 'nose'; it has id, where, uri"):
        ImageSource(str(path), "nose")
    with pytest.raises(SourceError, match=r"id .* is of type int64"):
        ImageSource(str(path), "id")


def test_members_of_a_tar_are_read_where_they_lie(folder: Path) -> None:
    with tarfile.open(folder / "shard.tar", "w") as archive:
        for number in range(3):
            entry = tarfile.TarInfo(f"{number:03}.png")
            entry.size = len(png(number))
            archive.addfile(entry, io.BytesIO(png(number)))
            archive.addfile(tarfile.TarInfo(f"{number:03}.json"), io.BytesIO())
    source = ImageSource(str(folder / "shard.tar"))
    assert uris(source) == [f"{folder}/shard.tar#{number:03}.png" for number in range(3)]
    read = [ImageReader(Limits()).read(item) for item in source.items.values()]
    assert read == [png(0), png(1), png(2)]
    assert len(ImageSource(str(folder)).items) == 5


def test_a_name_that_is_no_text_is_a_file_address(folder: Path) -> None:
    name = os.fsencode(folder) + b"/\xff.png"
    with open(name, "wb") as file:
        file.write(png())
    (found,) = [item for item in ImageSource(str(folder)).items.values() if "FF" in item.uri]
    assert found.uri.startswith("file://")
    path = ImageReader(Limits()).read(found)
    assert isinstance(path, Path)
    assert path.read_bytes() == png()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing-here", "No such file"),
        ("empty", "has no images in it"),
        ("ftp://host/x.png", "scheme that is not read"),
        ("s3://KEY:SECRET@bucket/x", "AWS_SECRET_ACCESS_KEY"),
        ("https://user:SECRET@host/x.png", "credentials"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match=words) as caught:
        ImageSource(name if "://" in name else str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert "SECRET@" not in str(caught.value)


def test_an_address_on_the_web(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PAUSE", 0.01)
    images = ImageReader(Limits())
    assert images.read(Item(f"{site}/b.png")) == png()
    with pytest.raises(ImageError, match="answered with 404"):
        images.read(Item(f"{site}/none.png"))
    with pytest.raises(UnreachableError, match="answered with 503"):
        images.read(Item(f"{site}/broken.png"))
    with pytest.raises(UnreachableError, match="refused"):
        images.read(Item("http://127.0.0.1:9/x.png"))
    with pytest.raises(ImageError, match="at most 10"):
        ImageReader(Limits(bytes=10)).read(Item(f"{site}/b.png"))


def test_a_mount_that_vanished_is_not_a_thousand_missing_files(folder: Path) -> None:
    """An unmounted folder is empty; its images are out of reach."""
    item = next(iter(ImageSource(str(folder)).items.values()))
    root = ImageSource(str(folder)).root()
    assert root
    os.unlink(item.uri)
    assert ImageReader(Limits(), root).read(item)  # one that is missing is the decoder's to refuse
    with pytest.raises(SourceError, match=r"another file system.*mount it"):
        ImageReader(Limits(), SourceRoot(root.path, root.device + 1)).read(item)
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(SourceError, match="out of reach"):
        ImageReader(Limits(), root).read(item)
