"""Builds the Containerfile and runs the image as root and as a hardened container; by hand.

    apt-get install buildah runc debootstrap
    python -m tools.container_run [FOLDER]

It runs as root on Debian, without a registry of images: the base is Debian's own Python 3.11, made
with debootstrap, and torch is PyPI's. FOLDER (else a temporary one) keeps base and image: 20 GB.
The containers run under runc in a network namespace with loopback alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.helpers.cog_server import REPOSITORY, data_url
from tests.helpers.namespace import enter, is_alone, run_alone

PACKAGES = "python3,python3-pip,python3-venv,python-is-python3,ca-certificates"
SHAPES = REPOSITORY / "examples" / "shapes.png"
START_SECONDS = 180
MEMORY = 4_000_000_000
DEMO = {"SAM3_WEIGHTS": "demo"}
TOKEN = {"SAM3_TOKEN": "container-run"}
LOAD = 12


def main() -> int:
    """Build, then run; returns the exit status."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()).resolve()
    if not is_alone():
        build(folder)
        return run_alone([sys.executable, "-m", "tools.container_run", str(folder)]).returncode
    enter()
    image = mounted(folder)
    checks = (cog_as_root, cog_hardened, web_hardened, batch_hardened, fleet_hardened, failed_setup)
    failed = []
    for check in checks:
        begin = time.monotonic()
        print(f"{check.__name__}:", flush=True)
        try:
            check(image)
        except (AssertionError, httpx.HTTPError) as error:
            failed.append(check.__name__)
            print(f"  FAILED: {error!r}"[:3000])
        print(f"  {time.monotonic() - begin:.0f} s", flush=True)
    print(f"failed: {', '.join(failed)}" if failed else "all right")
    return 1 if failed else 0


# Building


def buildah(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = ["buildah", "--storage-driver", "overlay", "--root", str(folder / "storage")]
    command += ["--runroot", str(folder / "run"), *arguments]
    return subprocess.run(command, check=True, text=True, **options)


def build(folder: Path) -> None:
    """The image `sam3-image`, target cpu, in the storage of `folder`."""
    base = folder / "base"
    if not (base / "usr/bin/python3").exists():
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", base]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
    if not buildah(
        folder, "images", "-q", "-f", "reference=python-base", capture_output=True
    ).stdout:
        name = buildah(folder, "from", "scratch", capture_output=True).stdout.strip()
        buildah(folder, "copy", "-q", name, str(base), "/", stdout=subprocess.DEVNULL)
        buildah(folder, "commit", "-q", "--rm", name, "python-base", stdout=subprocess.DEVNULL)
    begin = time.monotonic()
    # What a company network needs: its certificates and pip's own settings.
    given = [path for path in ("/etc/pip.conf", "/etc/ssl/certs") if Path(path).exists()]
    mounts = [f"--volume={path}:{path}:ro" for path in given]
    buildah(
        *(folder, "build", "-q", "--format", "docker", "--layers", "--target", "cpu"),
        *(
            "--runtime",
            "runc",
            "--network",
            "host",
            *mounts,
            "--build-arg",
            "PYTHON_IMAGE=localhost/python-base",
        ),
        *("--build-arg", "TORCH_BACKEND=", "-f", "Containerfile", "-t", "sam3-image", "."),
        cwd=REPOSITORY,
    )
    print(f"built in {time.monotonic() - begin:.0f} s", flush=True)


class ContainerImage:
    """The files and the configuration of the image that was built."""

    def __init__(self, root: Path, config: Mapping[str, Any], folder: Path) -> None:
        self.root, self.folder = root, folder
        self.env = dict(pair.split("=", 1) for pair in config["Env"])
        self.entrypoint, self.healthcheck = config["Entrypoint"], config["Healthcheck"]["Test"][1:]
        self.user, self.directory = config["User"], config["WorkingDir"]


def mounted(folder: Path) -> ContainerImage:
    """The image, mounted; its size and what it declares are printed."""
    name = buildah(folder, "from", "--pull-never", "sam3-image", capture_output=True).stdout.strip()
    root = Path(buildah(folder, "mount", name, capture_output=True).stdout.strip())
    said = json.loads(buildah(folder, "inspect", name, capture_output=True).stdout)
    config = said["Docker"]["config"]
    image = ContainerImage(root, config, folder)
    print(f"user {image.user}, {' '.join(image.entrypoint)} {' '.join(config['Cmd'])}")
    return image


# Running


class Container:
    """A command of the image under runc."""

    def __init__(
        self, image: ContainerImage, name: str, hardened: bool, env: Mapping[str, str], *args: str
    ) -> None:
        self.image, self.name = image, f"sam3-{name}-{os.getpid()}"
        self.bundle = image.folder / "bundles" / self.name
        shutil.rmtree(self.bundle, ignore_errors=True)
        self.bundle.mkdir(parents=True)
        config = self._config(hardened, env, args)
        (self.bundle / "config.json").write_text(json.dumps(config))
        self.log = self.bundle / "log"
        self.process = subprocess.Popen(
            ["runc", "run", "-b", str(self.bundle), self.name],
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )

    def _config(self, hardened: bool, env: Mapping[str, str], args: Sequence[str]) -> Any:
        subprocess.run(["runc", "spec"], cwd=self.bundle, check=True)
        config = json.loads((self.bundle / "config.json").read_text())
        config["root"] = {"path": str(self.image.root), "readonly": hardened}
        process, linux = config["process"], config["linux"]
        process["terminal"] = False
        process["args"] = [*self.image.entrypoint, *args]
        process["cwd"] = self.image.directory
        process["env"] = [f"{name}={value}" for name, value in {**self.image.env, **env}.items()]
        process["user"] = {"uid": 10001, "gid": 0} if hardened else {"uid": 0, "gid": 0}
        process["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096}]
        if hardened:
            process["capabilities"] = {}
            process["noNewPrivileges"] = True
            linux["resources"]["memory"] = {"limit": MEMORY}
        shared = "size=1m" if hardened else "size=64m"
        kept = [one for one in config["mounts"] if one["destination"] not in ("/tmp", "/dev/shm")]
        kept += [_tmpfs("/tmp", "size=2g"), _tmpfs("/dev/shm", shared)]
        config["mounts"] = kept
        linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "network"]
        return config

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A second process in it."""
        return subprocess.run(
            ["runc", "exec", self.name, *command], capture_output=True, text=True, check=False
        )

    def healthy(self) -> tuple[bool, str]:
        """What HEALTHCHECK says."""
        done = self.run(*self.image.healthcheck)
        return done.returncode == 0, done.stdout.strip()[:200]

    def wait_until_healthy(self) -> float:
        """Seconds until HEALTHCHECK says so."""
        begin = time.monotonic()
        while not self.healthy()[0]:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() - begin < START_SECONDS, self.log.read_text()[-3000:]
            time.sleep(0.5)
        return time.monotonic() - begin

    def stop(self) -> float:
        """SIGTERM, as `docker stop` sends it; seconds until it has ended."""
        begin = time.monotonic()
        subprocess.run(["runc", "kill", self.name, "TERM"], check=False, capture_output=True)
        self.process.wait(120)
        return time.monotonic() - begin


def _tmpfs(path: str, size: str) -> dict[str, Any]:
    options = ["nosuid", "nodev", "mode=1777", size]
    return {"destination": path, "type": "tmpfs", "source": "tmpfs", "options": options}


@contextlib.contextmanager
def running(*arguments: Any) -> Iterator[Container]:
    """A container, removed at the end whatever happens."""
    container = Container(*arguments)
    try:
        yield container
    finally:
        if container.process.poll() is None:
            container.process.send_signal(signal.SIGKILL)
        command = ["runc", "delete", "--force", container.name]
        subprocess.run(command, check=False, capture_output=True)


def under_load(container: Container, ask: Any) -> None:
    """SIGTERM while `LOAD` requests run: all are answered."""
    with ThreadPoolExecutor(LOAD) as pool:
        asked = [pool.submit(ask) for _ in range(LOAD)]
        time.sleep(0.3)
        done = sum(one.done() for one in asked)
        seconds = container.stop()
        answers = Counter(one.result() for one in asked)
    print(f"  SIGTERM with {LOAD - done} of {LOAD} requests running: {dict(answers)},")
    print(f"  ended with {container.process.returncode} after {seconds:.1f} s")
    assert set(answers) == {"succeeded"}, answers
    assert done < LOAD, "all were answered before"


# What is held


def cog(image: ContainerImage, hardened: bool) -> None:
    env = {**DEMO, "COG_MAX_CONCURRENCY": "16"}
    with running(image, "cog", hardened, env, "serve", "--host", "0.0.0.0") as container:
        print(f"  healthy after {container.wait_until_healthy():.1f} s: {container.healthy()[1]}")
        client = httpx.Client(base_url="http://127.0.0.1:5000", timeout=180)

        def ask(**inputs: Any) -> str:
            sent = {"image": data_url(SHAPES.read_bytes()), "prompt": "red circle", **inputs}
            return str(client.post("/predictions", json={"input": sent}).json()["status"])

        print(f"  a prediction: {ask()}")
        bad = client.post("/predictions", json={"input": {"prompt": "x"}}).status_code
        print(f"  without an image: {bad}")
        assert bad == 422, "Cog has no schema"
        if hardened:
            guard(container)
        under_load(container, lambda: ask(tile_size=256))


def guard(container: Container) -> None:
    """The memory guard sees the container's limit; nothing was written outside of /tmp."""
    code = "from sam3_image.decode import available_memory; print(available_memory())"
    seen = int(container.run("python", "-c", code).stdout)
    print(f"  the memory guard sees {seen / 1e9:.2f} GB of {MEMORY / 1e9:g}")
    assert 0 < seen < MEMORY
    who = container.run(
        "sh", "-c", "id -u; cat /proc/1/status | grep CapEff; touch /app/x; echo $HOME"
    )
    print("  " + " | ".join((who.stdout + who.stderr).split("\n")))


def cog_as_root(image: ContainerImage) -> None:
    """As Cog's own image runs."""
    cog(image, False)


def cog_hardened(image: ContainerImage) -> None:
    """A uid without a name, no HOME, a root that is read only, little /dev/shm, no capabilities."""
    cog(image, True)


def web_hardened(image: ContainerImage) -> None:
    """The page and the routes."""
    with running(image, "web0", True, DEMO, "web", "--host", "0.0.0.0") as container:
        container.process.wait(60)
        print(f"  without a token: {container.log.read_text().strip()}")
    env = {**DEMO, **TOKEN}
    with running(image, "web", True, env, "web", "--host", "0.0.0.0") as container:
        print(f"  healthy after {container.wait_until_healthy():.1f} s: {container.healthy()[1]}")
        page_and_prediction(container)


def page_and_prediction(container: Container) -> None:
    """The page, a prediction, and SIGTERM under load."""
    headers = {"Authorization": f"Bearer {TOKEN['SAM3_TOKEN']}"}
    client = httpx.Client(base_url="http://127.0.0.1:8000", timeout=120, headers=headers)
    page = client.get("/")
    print(f"  the page: {page.status_code}, {len(page.content)} bytes")
    assert page.status_code == 200
    assert client.get("/api/about", headers={"Authorization": ""}).status_code == 401

    def ask(**inputs: Any) -> str:
        body = {"input": {"image": data_url(SHAPES.read_bytes()), "prompt": "red circle", **inputs}}
        answer = client.post("/v1/predictions", json=body, headers={"Prefer": "wait"})
        return str(answer.json()["status"])

    print(f"  a prediction: {ask()}")
    if container.name.startswith("sam3-web"):
        guard(container)
    under_load(container, ask)  # the web server gives them 10 s


def batch_hardened(image: ContainerImage) -> None:
    """A folder of images to Parquet."""
    args = ("batch", "examples", "--prompts", "red circle", "--out", "/tmp/rows", "--workers", "1")
    with running(image, "batch", True, DEMO, *args) as container:
        container.process.wait(START_SECONDS)
        print("  " + "\n  ".join(container.log.read_text().strip().splitlines()[-3:]))
        assert container.process.returncode == 0


def fleet_hardened(image: ContainerImage) -> None:
    """Two replicas in one container."""
    env = {**DEMO, **TOKEN}
    args = ("fleet", "--host", "0.0.0.0", "--replicas", "2", "--cpus", "0.5")
    with running(image, "fleet", True, env, *args) as container:
        print(f"  healthy after {container.wait_until_healthy():.1f} s: {container.healthy()[1]}")
        page_and_prediction(container)


def failed_setup(image: ContainerImage) -> None:
    """HEALTHCHECK tells a setup that has failed, to which Cog answers 200."""
    for env in ({"SAM3_WEIGHTS": "/nowhere"}, {"HF_TOKEN": "x"}, {"SAM3_DEVICE": "", **DEMO}):
        with running(image, "failed", True, env, "serve", "--host", "0.0.0.0") as container:
            end = time.monotonic() + START_SECONDS
            while "SETUP_FAILED" not in container.healthy()[1]:
                assert time.monotonic() < end, container.log.read_text()[-3000:]
                time.sleep(0.5)
            print(f"  {env}: {container.healthy()}")
            lines = [one for one in container.log.read_text().splitlines() if "Error: " in one]
            print(f"  {lines[-1][:600]}")


if __name__ == "__main__":
    sys.exit(main())
