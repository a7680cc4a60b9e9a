"""A Hugging Face hub on this machine: real HTTP, the few routes that a download takes.

It serves one folder as a repository and can refuse as the real hub does: `gated` (403 for an
account without access, 401 without a token), `unknown` (404), `bad token` (401).
"""

from __future__ import annotations

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
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}")
                self._answer(folder, gated)

            do_HEAD = do_GET

            def _answer(self, folder: Path, gated: bool) -> None:
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                if token and token not in (TOKEN, "hf_stranger"):
                    return self._send(401, b"{}", {"X-Error-Message": "Invalid credentials"})
                if not self.path.startswith(("/api/models/facebook/sam3", "/facebook/sam3/")):
                    return self._send(
                        404 if token else 401, b"{}", {"X-Error-Code": "RepoNotFound"}
                    )
                files = sorted(file for file in folder.iterdir() if file.is_file())
                if self.path.startswith("/api/"):
                    names = [
                        {"rfilename": file.name, "size": file.stat().st_size} for file in files
                    ]
                    if "/tree/" in self.path:
                        tree = [
                            {"type": "file", "path": n["rfilename"], "size": n["size"], "oid": "0"}
                            for n in names
                        ]
                        return self._send(200, json.dumps(tree).encode(), {})
                    info = {"id": "facebook/sam3", "sha": COMMIT, "siblings": names}
                    return self._send(200, json.dumps(info).encode(), {})
                if gated and token != TOKEN:
                    return self._send(403 if token else 401, b"{}", {"X-Error-Code": "GatedRepo"})
                content = (folder / self.path.rsplit("/", 1)[1]).read_bytes()
                headers = {
                    "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                    "X-Repo-Commit": COMMIT,
                    "Accept-Ranges": "bytes",
                }
                wanted = self.headers.get("Range")
                if wanted:
                    start = int(wanted.removeprefix("bytes=").split("-")[0])
                    headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                    return self._send(206, content[start:], headers)
                return self._send(200, content, headers)

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

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Hub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
