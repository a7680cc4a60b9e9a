"""The wheel, as a stranger has it: installed in an environment of its own, in an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
import zipfile
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import sam3_image
from tests.helpers.cog_server import REPOSITORY, free_port
from tests.http.test_scripts import real_uv

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The file of pins, and the extras whose ranges hold for it.
PINS = {
    "requirements.txt": ("opencv", "cog"),
    "requirements-web.txt": ("web",),
    "requirements-batch.txt": ("batch",),
    "requirements-fleet.txt": ("fleet",),
}


def uv(*arguments: str | Path) -> None:
    done = subprocess.run(
        [real_uv(), *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the clone, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(
        ["git", "-C", REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in files:
        if (REPOSITORY / name).is_file():
            (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / "clone" / name)
    python = ("--python", sys.executable, "--no-build-isolation", "--offline")
    uv("build", "--wheel", *python, "--out-dir", folder, folder / "clone")
    (made,) = folder.glob("*.whl")
    return made


class Installed:
    """The wheel in a new environment, which sees the packages that it needs, and no clone."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.folder = folder / "empty"
        self.folder.mkdir()
        venv.create(folder / "venv", symlinks=True)
        self.bin = folder / "venv" / "bin"
        uv("pip", "install", "--offline", "--no-deps", "--python", self.bin / "python", wheel)
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (packages / "packages.pth").write_text(sysconfig.get_path("purelib"))
        self.blocked = folder / "blocked"
        self.blocked.mkdir()

    def environment(self, without: str = "") -> dict[str, str]:
        """Of a person with the demo weights; without: a module that is not installed."""
        code = f"import sys\nsys.modules[{without!r}] = None\n" if without else ""
        (self.blocked / "sitecustomize.py").write_text(code)
        return {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONPATH": str(self.blocked),
            # Another sitecustomize of the same length in the same second would run the old one.
            "PYTHONDONTWRITEBYTECODE": "1",
            "SAM3_WEIGHTS": "demo",
            "SAM3_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *command: str, without: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.folder,
            env=self.environment(without),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_pins_lie_in_the_ranges() -> None:
    ranges = [Requirement(text) for text in PROJECT["dependencies"]]
    for file, extras in PINS.items():
        known = {
            canonicalize_name(one.name): one.specifier
            for one in ranges + [Requirement(t) for e in extras for t in _extra(e)]
        }
        for line in (REPOSITORY / file).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                pin = Requirement(line)
                (version,) = (one.version for one in pin.specifier)
                name = canonicalize_name(pin.name)
                assert name in known, f"{file} pins {name}, which {extras} do not name"
                assert version in known[name], f"{line} is not {known[name]}"


def _extra(name: str) -> list[str]:
    return list(PROJECT["optional-dependencies"][name])


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (REPOSITORY / "sam3_image").rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(REPOSITORY)) for path in files if path.suffix != ".pyc"}
    assert wanted - names == set()
    demo = [path.name for path in (REPOSITORY / "weights" / "demo").iterdir()]
    assert {f"sam3_image/demo/{name}" for name in demo} <= names


def test_the_command(installed: Installed) -> None:
    for command in (["sam3-image"], ["python", "-m", "sam3_image"]):
        done = installed.run(*command, "--version")
        assert done.stdout == f"sam3-image {sam3_image.__version__}\n", done.stderr
    done = installed.run("sam3-image")
    for name in ("predict", "serve", "web", "batch", "download-weights", "convert-weights"):
        assert name in done.stdout


def test_predict_one_and_several_images(installed: Installed) -> None:
    done = installed.run("sam3-image", "predict")
    assert done.returncode == 0, done.stderr
    assert "sam3-image download-weights" in done.stderr
    assert "script/" not in done.stderr
    (line,) = done.stdout.splitlines()
    with Image.open(installed.folder / line) as overlay:
        assert overlay.size == (800, 600)
    for name in ("shapes.png", "photo2.png"):
        shutil.copy(REPOSITORY / "examples" / "shapes.png", installed.folder / name)
    images = ["shapes.png", "photo2.png"]
    done = installed.run("sam3-image", "predict", *images, "--prompt", "star", "-o", "found/")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["found/shapes-masks.zip", "found/photo2-masks.zip"]
    assert done.stderr.count("Loading ") == 1


def test_batch(installed: Installed) -> None:
    folder = installed.folder / "photos"
    folder.mkdir()
    shutil.copy(REPOSITORY / "examples" / "shapes.png", folder)
    done = installed.run("sam3-image", "batch", "photos", "--prompts", "star", "--out", "rows")
    assert done.returncode == 0, done.stderr
    assert list((installed.folder / "rows").rglob("*.parquet"))


def test_web_has_the_page_and_the_example(installed: Installed) -> None:
    port = free_port()
    process = subprocess.Popen(
        [installed.bin / "sam3-image", "web", "--port", str(port)],
        cwd=installed.folder,
        env=installed.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            end = time.monotonic() + 180
            while process.poll() is None and time.monotonic() < end:
                try:
                    page = client.get("/")
                    break
                except httpx.TransportError:
                    time.sleep(0.3)
            files = re.findall(r'(?:src|href)="(/?static/[^"]+)"', page.text)
            assert files
            for name in files:
                assert client.get("/" + name.lstrip("/")).status_code == 200, name
            example = client.get("/api/example")
        assert example.content == (REPOSITORY / "examples" / "shapes.png").read_bytes()
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("cv2", "predict", "opencv"),
        ("cog", "serve", "cog"),
        ("uvicorn", "web", "web"),
        ("pyarrow", "batch photos --prompts star --out rows2", "batch"),
    ],
)
def test_a_missing_extra_is_one_line(
    installed: Installed, module: str, command: str, extra: str
) -> None:
    done = installed.run("sam3-image", *command.split(), without=module)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f'{module} is not installed: pip install "sam3-image[{extra}]"' in line


def test_messages_name_what_their_reader_has(installed: Installed) -> None:
    shutil.copy(REPOSITORY / "examples" / "shapes.png", installed.folder / "image.png")
    code = "import sam3_image as s\nfor name in ('weights/mine', 'no/such/name'):\n"
    code += " try: s.load(name)\n except s.UserError as error: print(error)\n"
    done = installed.run("python", "-c", code)
    for line, name in zip(done.stdout.splitlines(), ("weights/mine", "no/such/name"), strict=True):
        assert name in line
        assert "site-packages" not in line
        assert "SAM3_WEIGHTS" not in line, "a variable that nobody has set"


def test_every_snippet_of_the_page_runs(installed: Installed) -> None:
    page = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    assert len(blocks) == 5
    code = "\n".join(blocks)
    code += "\nassert len(found) == 3 and len(alike) >= 3 and len(picked) == 1 and len(three) == 3"
    code += "\nassert [len(one) for one in each] == [1, 1] and len(best) == 3"
    code += "\nassert 'site-packages' in sam3_image.__file__"
    done = installed.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert "threshold is 2" in done.stdout.splitlines()[-1]
    assert len(done.stdout.splitlines()) <= 2 + 3, "a library logs nothing on stdout"
    for name in ("masks.zip", "overlay.jpg", "mask.png", "polygons.json"):
        assert (installed.folder / name).is_file()
