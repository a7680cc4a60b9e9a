"""`sam3-image serve`: Cog's own HTTP server with our predictor, without Docker."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from sam3_image.errors import UserError
from sam3_image.shipped import DEMO_NAME, PREDICTOR

# How many requests may wait and run; `cog build` sets it from @concurrent in predict.py.
MAX_CONCURRENCY = "16"


def serve_with_cog(host: str, port: int) -> NoReturn:
    """Become Cog's server; raises UserError where it cannot listen or Cog is missing."""
    if importlib.util.find_spec("cog") is None:
        raise ModuleNotFoundError("cog is not installed", name="cog")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another with "
            "--port or --host."
        ) from None
    # Without this file Cog checks no request, and /openapi.json answers 503. A wheel and an image
    # hold it; only a clone can make it.
    if (PREDICTOR / "tools" / "cog_schema").is_dir():
        command = [sys.executable, "-m", "tools.cog_schema.openapi", "predict.py"]
        subprocess.run([*command, ".cog/openapi_schema.json"], cwd=PREDICTOR, check=True)
    print(
        f'serve: http://{host}:{port} takes POST /predictions once its log says "Server ready"',
        file=sys.stderr,
        flush=True,
    )
    environment = {
        "COG_MAX_CONCURRENCY": MAX_CONCURRENCY,
        # A thread that waits for others sleeps instead of keeping a core from other requests.
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "PORT": str(port),
        "COG_PREDICT_TYPE_STUB": "predict.py:Predictor",
        # Cog starts its worker as a bare `python`, so the one with the packages comes first.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    weights = environment.get("SAM3_WEIGHTS", "")
    if weights != DEMO_NAME and Path(weights).is_dir() and weights:
        environment["SAM3_WEIGHTS"] = os.path.abspath(weights)  # of the caller's folder
    os.chdir(PREDICTOR)
    command = [sys.executable, "-m", "cog.server.http", "--host", host]
    os.execvpe(command[0], command, environment)
