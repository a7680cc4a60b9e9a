"""`python -m tools.gpu.measure --wheels FOLDER --out OUT`: all figures of a GPU in one call.

Installs the wheels of `tools.gpu.pack` into an environment beside what the machine has, makes
weights of full size with random content on the GPU, and measures at most `--minutes`, the most
useful first, printing as it goes. At the end it prints one table and writes OUT/measure.json.
`--rehearse` installs nothing and takes the same way with the demo checkpoint on a CPU.

Only the standard library is imported here: the rest may not be installed yet.
"""

from __future__ import annotations

import argparse
import os
import site
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 7.0


def main() -> None:
    """Install where that was asked for, then measure."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.wheels is None:
        from tools.gpu.sections import Bench

        Bench.prepare(options.out, options.minutes, options.rehearse, options.weights).run()
        return
    with tempfile.TemporaryDirectory(prefix="sam3-gpu-") as folder:
        python = install(options.wheels, Path(folder))
        command = [str(python), "-m", "tools.gpu.measure", "--out", str(options.out)]
        command += ["--minutes", str(options.minutes)]
        command += ["--rehearse"] if options.rehearse else []
        command += ["--weights", str(options.weights)] if options.weights else []
        # Cog starts its worker as a bare `python`.
        path = f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, check=False)
    sys.exit(done.returncode)


def install(wheels: Path, folder: Path) -> Path:
    """Make an environment of the wheels and of this interpreter's own packages; returns its Python.

    The wheels go before packages of the same name that are there already.
    """
    venv.create(folder, system_site_packages=True, with_pip=False)
    python = folder / "bin" / "python"
    files = sorted(wheels.glob("*.whl"))
    if not files:
        sys.exit(f"There are no wheels in {wheels}; fill it with python -m tools.gpu.pack {wheels}")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    command += ["--no-index", "--no-deps", *map(str, files)]
    subprocess.run(command, check=True)
    # Where this interpreter is an environment itself, its packages are not the system's.
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "outer.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.gpu.measure", description=__doc__)
    parser.add_argument("--wheels", type=Path, help="what tools.gpu.pack made; None: no install")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpu")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="no section starts later")
    parser.add_argument("--weights", type=Path, help="a checkpoint; None: random, of full size")
    parser.add_argument("--rehearse", action="store_true", help="the demo checkpoint, on a CPU")
    options = parser.parse_args()
    for name in ("wheels", "out", "weights"):
        path = getattr(options, name)
        setattr(options, name, path and path.resolve())
    return options


if __name__ == "__main__":
    main()
