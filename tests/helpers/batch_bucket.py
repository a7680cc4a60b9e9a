"""A bucket for tests: moto's server, in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pyarrow.fs as arrow_fs
import pytest

BUCKET = "pictures"


@pytest.fixture(scope="module")
def bucket() -> Iterator[arrow_fs.FileSystem]:
    """The file system of a server with one empty bucket; the environment leads there."""
    pytest.importorskip("moto", reason="moto is not installed (requirements-dev.txt)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert time.monotonic() < end
            assert server.poll() is None
            time.sleep(0.1)
    endpoint = f"http://127.0.0.1:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        system = arrow_fs.S3FileSystem(allow_bucket_creation=True, endpoint_override=endpoint)
        system.create_dir(BUCKET)
        yield system
    server.kill()
    server.wait()
