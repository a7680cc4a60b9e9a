"""Lists, tables and tars as people have them: nothing of them is lost without a word."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sam3_image.batch.reader import ImageReader
from sam3_image.batch.sources import ImageSource
from sam3_image.batch.storage import SourceError
from sam3_image.decode import Limits
from tests.batch.test_batch_sources import png

NAMES = ["a.png", "b b.png", "ü.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(png(number))
    return tmp_path


def listed(path: Path, column: str | None = None) -> list[str]:
    return [uri.removeprefix(f"{path.parent}/") for uri in ImageSource(str(path), column).items]


def contents(source: ImageSource) -> list[bytes]:
    reader = ImageReader(Limits())
    found = [reader.read(item) for item in source.items.values()]
    return [one.read_bytes() if isinstance(one, Path) else one for one in found]


# Texts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_in_any_usual_encoding(folder: Path, encoding: str, end: str) -> None:
    text = end.join(["# a comment", *NAMES, "", "# the end", ""])
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (folder / "list.txt").write_bytes(mark + text.encode(encoding))
    assert listed(folder / "list.txt") == NAMES


def test_lines_end_where_editors_end_them(folder: Path) -> None:
    odd = "x\u2028y\u0085z\x0c.png"
    (folder / "list.txt").write_text(f"a.png\n{odd}\n", encoding="utf-8")
    assert listed(folder / "list.txt") == ["a.png", odd]


def test_addresses_that_are_not_utf_8_stay_what_they_are(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"http://host/caf\xe9.png\ncaf\xe9.png\n")
    found = list(ImageSource(str(folder / "list.txt")).items)
    assert found == ["http://host/caf%E9.png", f"file://{folder}/caf%E9.png"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Dear team,\nthe images are in the other folder.\n", "its first line is 'Dear team,'"),
        ("a.png\n".encode("utf-16")[2:], "not a text.*byte order mark"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not a text"),
        (b"https://user:SECRET@host/a.png\n", "'host' holds credentials"),
        (b"s3://KEY:SECRET@bucket/a.png\n", "'bucket' holds credentials"),
    ],
)
def test_what_is_no_list_is_refused(folder: Path, content: bytes, words: str) -> None:
    (folder / "list.txt").write_bytes(content)
    with pytest.raises(SourceError, match=words) as caught:
        ImageSource(str(folder / "list.txt"))
    assert "SECRET@" not in str(caught.value)


@pytest.mark.parametrize(("name", "separator"), [("list.csv", ","), ("list.tsv", "\t")])
def test_a_table_in_a_text_is_read_by_its_header(folder: Path, name: str, separator: str) -> None:
    rows = [["id", "path", "prompts"], ["1", "a.png", "red, round"], ["2", "b b.png", '["x","y"]']]
    rows += [["3", "ü.png", ""], ["4", "", ""], ["5"]]
    text = "\n".join(
        separator.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows
    )
    (folder / name).write_bytes(text.encode("utf-16"))
    source = ImageSource(str(folder / name))
    assert [item.prompts for item in source.items.values()] == [("red, round",), ("x", "y"), None]
    assert listed(folder / name) == NAMES
    assert source.others == 2
    with pytest.raises(SourceError, match="no column 'nose'; it has id, path, prompts"):
        ImageSource(str(folder / name), "nose")


def test_a_table_without_a_header_is_refused(folder: Path) -> None:
    (folder / "list.csv").write_text("a.png,1\nb b.png,2\n")
    with pytest.raises(SourceError, match=r"no column 'uri or path .*it has a\.png, 1.*--column"):
        ImageSource(str(folder / "list.csv"))


def test_prompts_that_are_none_are_refused(folder: Path) -> None:
    (folder / "list.csv").write_text('path,prompts\na.png,"[1, 2]"\n')
    with pytest.raises(SourceError, match=r"prompts of .*a\.png' are '\[1, 2\]'; give a text"):
        ImageSource(str(folder / "list.csv"))
    (folder / "list.csv").write_text("path,prompts\na.png,x\n./a.png,y\n")
    with pytest.raises(SourceError, match="listed twice with different prompts"):
        ImageSource(str(folder / "list.csv"))


# Tables that hold images


def hugging_face(folder: Path) -> pa.Table:
    """A table as `datasets` writes it; the last image is a file beside it."""
    images = [{"bytes": png(n), "path": name} for n, name in enumerate(["x/0.png", None])]
    images.append({"bytes": None, "path": "a.png"})
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    prompts = [["star"], [], None]
    return pa.table({"image": pa.array(images, kind), "label": [1, 2, 3], "prompts": prompts})


@pytest.mark.parametrize("kind", ["parquet", "stream", "file"])
def test_images_inside_a_table(folder: Path, kind: str) -> None:
    table = hugging_face(folder)
    path = folder / ("t.parquet" if kind == "parquet" else "t.arrow")
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=2)
    else:
        make = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
        with make(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    source = ImageSource(str(path))
    assert contents(source) == [png(0), png(1), png(0)]
    assert [item.prompts for item in source.items.values()] == [("star",), None, None]
    last = "1.0" if kind == "parquet" else "0.2"
    assert listed(path) == [
        f"{path.name}#0.0/0.png",
        f"{path.name}#0.1",
        f"{path.name}#{last}/a.png",
    ]
    assert len(ImageSource(str(folder)).items) == len(NAMES) + 3, "a folder of such files"


def test_a_column_of_bytes(folder: Path) -> None:
    pq.write_table(pa.table({"n": [1], "data": [png(7)]}), folder / "t.parquet")
    assert contents(ImageSource(str(folder / "t.parquet"))) == [png(7)]


def test_other_tables_in_a_folder_are_no_images_and_damaged_ones_are_named(folder: Path) -> None:
    pq.write_table(pa.table({"path": ["a.png"]}), folder / "list.parquet")
    (folder / "half.parquet").write_bytes((folder / "list.parquet").read_bytes()[:50])
    source = ImageSource(str(folder))
    assert len(source.items) == len(NAMES)
    assert source.others == 1
    assert [Path(where).name for where, _ in source.problems] == ["half.parquet"]


def test_text_columns_of_any_kind(folder: Path) -> None:
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        column = pa.array(["a.png", None, "b b.png"]).cast(kind)
        pq.write_table(pa.table({"path": column}), folder / "t.parquet")
        assert listed(folder / "t.parquet") == ["a.png", "b b.png"]


# Tars


def tar(path: Path, names: list[str]) -> bytes:
    with tarfile.open(path, "w") as archive:
        for number, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            entry.size = len(png(number))
            archive.addfile(entry, io.BytesIO(png(number)))
    return path.read_bytes()


def test_members_with_odd_names(tmp_path: Path) -> None:
    tar(tmp_path / "t.tar", ["img#1.png", "./a/./k.png", "a/k.png", "x?.png"])
    source = ImageSource(str(tmp_path / "t.tar"))
    assert listed(tmp_path / "t.tar") == ["t.tar#img#1.png", "t.tar#a/k.png", "t.tar#x?.png"]
    assert contents(source) == [png(0), png(1), png(3)]
    assert source.repeated == 1
    assert not source.problems


MEMBER = 1024  # bytes that each takes: a header and a block of content


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (
            "a flipped byte in the third header",
            lambda d: d[: 2 * MEMBER] + b"~" + d[2 * MEMBER + 1 :],
        ),
        ("cut inside the third header", lambda d: d[: 2 * MEMBER + 100]),
        ("cut inside the third image", lambda d: d[: 2 * MEMBER + 512 + 10]),
        ("cut before the third header", lambda d: d[: 2 * MEMBER]),
        ("two tars in one", lambda d: d[: 2 * MEMBER] + bytes(MEMBER) + d[2 * MEMBER :]),
    ],
)
def test_what_cannot_be_listed_of_a_tar_is_said(tmp_path: Path, name: str, damage: object) -> None:
    whole = tar(tmp_path / "t.tar", [f"{n}.png" for n in range(5)])
    assert len(ImageSource(str(tmp_path / "t.tar")).items) == 5
    (tmp_path / "t.tar").write_bytes(damage(whole))  # type: ignore[operator]
    (tmp_path / "other.png").write_bytes(png())
    source = ImageSource(str(tmp_path))
    assert len(source.items) == 3, name
    ((where, why),) = source.problems
    assert where == str(tmp_path / "t.tar")
    assert "cannot be listed from byte 2," in why


def test_an_empty_tar_does_not_refuse_its_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.tar").touch()
    (tmp_path / "a.png").write_bytes(png())
    source = ImageSource(str(tmp_path))
    assert len(source.items) == 1
    assert "empty file" in source.problems[0][1]
    with pytest.raises(SourceError, match="empty file"):
        ImageSource(str(tmp_path / "empty.tar"))


# Folders and wildcards


def test_wildcards_do_not_walk_in_circles(tmp_path: Path) -> None:
    for number in range(20):
        place = tmp_path / "top" / f"{number % 4}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(png())
    (tmp_path / "top/0/circle").symlink_to(tmp_path / "top")
    (tmp_path / "top/.hidden.png").touch()
    assert len(ImageSource(f"{tmp_path}/top/**/*.png").items) == 20
    assert len(ImageSource(str(tmp_path)).items) == 20
