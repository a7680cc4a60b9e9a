"""What ships with the package: its version, the demo checkpoint, the example image, its commands.

In a clone these files lie beside the package, in a wheel inside it.
"""

from __future__ import annotations

import os
from pathlib import Path

__version__ = "0.1.0"

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
IN_WHEEL = (PACKAGE / "demo").is_dir()
DEMO_NAME = "demo"  # names the demo checkpoint wherever weights are named
DEMO = PACKAGE / "demo" if IN_WHEEL else ROOT / "weights" / "demo"
EXAMPLE = PACKAGE / "shapes.png" if IN_WHEEL else ROOT / "examples" / "shapes.png"
# The folder with predict.py and the schema that Cog's server reads.
PREDICTOR = PACKAGE / "predictor" if IN_WHEEL else ROOT

# The extra, of this package, that each module belongs to.
EXTRAS = {
    "cv2": "opencv",
    "cog": "cog",
    "fastapi": "web",
    "httpcore": "web",
    "multipart": "web",
    "prometheus_client": "web",
    "python_multipart": "web",
    "starlette": "web",
    "uvicorn": "web",
    "httpx": "batch",
    "pyarrow": "batch",
    "ray": "batch",
    "grpc": "fleet",  # of ray[serve]
}


def command(name: str) -> str:
    """How the reader of a message calls a command: `sam3-image NAME`, in a clone `script/NAME`."""
    return f"script/{name}" if (ROOT / "script" / name).is_file() else f"sam3-image {name}"


def default_weights() -> Path:
    """The folder where `download-weights` puts weights and where they are looked for first.

    In a clone and in the container `weights/sam3` beside the package; else in the user's cache.
    """
    if not IN_WHEEL:
        return ROOT / "weights" / "sam3"
    # Not pathlib's own, which fails where there is no home.
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "sam3-image", "weights", "sam3")


def missing_module(name: str | None) -> str | None:
    """What to do about a module that cannot be imported; None where it is no optional one."""
    package = (name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    if extra is None:
        return None
    line = f'{package} is not installed: pip install "sam3-image[{extra}]"'
    if package == "cv2":
        line += ", or opencv-python where another package wants that one"
    elif not IN_WHEEL:
        scripts = {
            "cog": "script/serve",
            "web": "script/web",
            "batch": "script/batch",
            "fleet": "script/fleet",
        }
        line += f", or run {scripts[extra]}, which installs it"
    return f"{line}."
