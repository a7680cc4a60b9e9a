"""`python -m tools.gpu.pack FOLDER`: wheels for a machine that has Python 3.12 and torch already.

What the requirements ask for, pinned as there, less what the machine brings. uv resolves, pip
downloads.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "3.12"
# The measurements start Cog's server and talk to it with httpx; requirements-dev.txt pins that.
REQUIREMENTS, CLIENT = "requirements.txt", "httpx"
# The machine has these, except for transformers, whose version there is older than the pinned one.
PRESENT = (
    *("torch", "numpy", "pillow", "opencv-python-headless", "safetensors", "psutil", "pytest"),
    *("triton", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "setuptools"),  # torch's
)
PRESENT_PREFIXES = ("nvidia-", "cuda-")
LIMIT = 60_000_000  # bytes of all wheels together; what is carried to the machine has a limit
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def main() -> None:
    """Fill the folder that the command line names; what it held before is deleted."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu.pack", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    download([name for name in resolved() if not is_present(name)], folder)
    wheels = sorted(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{len(wheels)} wheels, {size / 1e6:.1f} MB, in {folder}")
    if size > LIMIT:
        sys.exit(f"That is more than {LIMIT / 1e6:.0f} MB: find out what became so large.")


def resolved() -> list[str]:
    """Everything that the requirements lead to on the machine, as name==version."""
    pins = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    with tempfile.NamedTemporaryFile("w", suffix=".in") as wanted:
        wanted.write((ROOT / REQUIREMENTS).read_text(encoding="utf-8"))
        wanted.write("\n".join(pin for pin in pins if pin.startswith(f"{CLIENT}==")) + "\n")
        wanted.flush()
        command = ["uv", "pip", "compile", "-q", "--no-header", "--no-annotate", wanted.name]
        command += ["--python-version", PYTHON, "--python-platform", "x86_64-manylinux_2_28"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if "==" in line]


def is_present(requirement: str) -> bool:
    """Whether the machine brings the package of `name==version`."""
    name = requirement.split("==")[0].lower()
    return name in PRESENT or name.startswith(PRESENT_PREFIXES)


def download(requirements: list[str], folder: Path) -> None:
    """Fetch one wheel for each; raises CalledProcessError for one that has none."""
    command = ["uv", "run", "-q", "--no-project", "--with", "pip", "python", "-m", "pip"]
    command += ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--python-version", PYTHON, "--implementation", "cp"]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    subprocess.run([*command, *requirements], check=True)


if __name__ == "__main__":
    main()
