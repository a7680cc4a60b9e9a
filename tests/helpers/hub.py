"""A Hugging Face hub on this machine: real HTTP, the few routes that a download takes.

It serves one folder as a repository and can refuse as the real hub does: `gated` (403 for an
account without access, 401 without a token), `unknown` (404), `bad token` (401).
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_right"


class Hub:
    """Serves `folder` as `facebook/sam3` until the `with` ends; `url` is its address."""

    def __init__(self, folder: Path, gated: bool = False) -> None:
        self.requests: list[str] = []
        handler = functools.partial(_Handler, folder, gated, self.requests)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, gated: bool, requests: list[str], *connection: Any) -> None:
        self._folder, self._gated, self._requests = folder, gated, requests
        super().__init__(*connection)  # answers at once

    def do_GET(self) -> None:
        self._requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}")
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in (TOKEN, "hf_stranger"):
            self._send(401, b"{}", {"X-Error-Message": "Invalid credentials"})
        elif not self.path.startswith(("/api/models/facebook/sam3", "/facebook/sam3/")):
            self._send(404 if token else 401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif self.path.startswith("/api/"):
            self._send_list()
        elif self._gated and token != TOKEN:
            self._send(403 if token else 401, b"{}", {"X-Error-Code": "GatedRepo"})
        else:
            self._send_file((self._folder / self.path.rsplit("/", 1)[1]).read_bytes())

    do_HEAD = do_GET

    def _send_list(self) -> None:
        sizes = {
            file.name: file.stat().st_size
            for file in sorted(self._folder.iterdir())
            if file.is_file()
        }
        if "/tree/" in self.path:
            answer: Any = [
                {"type": "file", "path": name, "size": size, "oid": "0"}
                for name, size in sizes.items()
            ]
        else:
            files = [{"rfilename": name, "size": size} for name, size in sizes.items()]
            answer = {"id": "facebook/sam3", "sha": COMMIT, "siblings": files}
        self._send(200, json.dumps(answer).encode(), {})

    def _send_file(self, content: bytes) -> None:
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        wanted = self.headers.get("Range")
        if not wanted:
            return self._send(200, content, headers)
        start = int(wanted.removeprefix("bytes=").split("-")[0])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self._send(206, content[start:], headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
