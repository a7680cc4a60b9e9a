"""The web server of this repository as a child process, and a client for it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import psutil

from tests.helpers.cog_server import REPOSITORY, SETUP_SECONDS


class WebServer:
    """`python -m sam3_image.web` on a free port; stop() it, or use it in a `with`.

    environment: added to this process's own; SAM3_DEVICE is the CPU unless it says otherwise.
    folder: for the log and the server's own TMPDIR.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], *arguments: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.log_file = folder / "web.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sam3_image.web", "--port", "0", *arguments],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "SAM3_DEVICE": "cpu",
                "PYTHONUNBUFFERED": "1",
                **environment,
                "TMPDIR": str(self.temporary),
            },
            stdin=subprocess.DEVNULL,
            stdout=self.log_file.open("w"),
            stderr=subprocess.STDOUT,
        )
        self.url = ""
        self.http = httpx.Client(timeout=120)

    def __enter__(self) -> WebServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ready(self, address: str = r"http://\S+/") -> WebServer:
        """This server once it has printed its address; fails with the log if it ends.

        address: a pattern of it, which ends in a slash.
        """
        end = time.monotonic() + SETUP_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            found = re.search(f"open ({address})", self.log())
            if found:
                self.url = found[1].rstrip("/")
                self.http.base_url = httpx.URL(self.url)
                return self
            time.sleep(0.05)
        raise AssertionError(f"the web server is not ready:\n{self.log()[-4000:]}")

    def listens_at(self) -> str:
        """Host and port at which it takes connections, whatever its address for others is."""
        connections = psutil.Process(self.process.pid).net_connections("tcp")
        (port,) = {one.laddr.port for one in connections if one.status == "LISTEN"}
        return f"127.0.0.1:{port}"

    def log(self) -> str:
        """Everything the server has printed so far."""
        return self.log_file.read_text(errors="replace")

    def stop(self) -> None:
        """End the server."""
        self.http.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                try:
                    self.process.wait(15)
                except subprocess.TimeoutExpired:
                    continue
