"""The web server from a terminal: `sam3-image web [--host HOST] [--port PORT]`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from sam3_image.errors import UserError
from sam3_image.settings import DEFAULT_HOST, DEFAULT_PORT, JSON, Settings, WebSettings
from sam3_image.shipped import command

if TYPE_CHECKING:
    from sam3_image.serving import Service

USAGE_ERROR = 2
BACKLOG = 64


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the page of options before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; allowed: --host HOST, --port PORT")


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the model and serve until interrupted; returns the exit status."""
    parser = _Parser(prog=command("web"), description="The page to try SAM 3 by hand.")
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=DEFAULT_PORT, type=int, help="port (%(default)s)")
    try:
        given = parser.parse_args(arguments)
        settings = WebSettings.from_environment(os.environ, given.host, given.port)
        _serve(settings, Settings.from_environment(os.environ), _listen(settings))
    except UserError as error:
        print(f"web: {error}", file=sys.stderr)
        return USAGE_ERROR
    return 0


def _listen(settings: WebSettings) -> socket.socket:
    """Take the port before the model is loaded, so that a taken one is said at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); "
            "choose another with --port or --host"
        ) from None


def _serve(settings: WebSettings, model: Settings, listening: socket.socket) -> None:
    """Answer at once; the model is loaded meanwhile. Raises UserError where it cannot be."""
    # Imported late: torch takes seconds, and neither --help nor a taken port needs it.
    import uvicorn

    from sam3_image.report import log_to_stdout
    from sam3_image.web.app import create_app
    from sam3_image.web.server import BoundedProtocol, GracefulServer, behind_proxy
    from sam3_image.web.state import GRACE_SECONDS

    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises it again when it has ended
        signal.signal(number, _stop)
    log_to_stdout(as_json=model.log_format == JSON)
    app = create_app(None, settings)
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        backlog=BACKLOG,  # so many connections are accepted in one go
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=int(GRACE_SECONDS),
    )
    config.app = behind_proxy(app, config.forwarded_allow_ips)
    server = GracefulServer(config, app.state.server)
    failures: list[BaseException] = []

    def load() -> None:
        try:
            app.state.server.serve(_loaded(model))
            print(f"web: open {_opened_at(settings, listening)}", file=sys.stderr, flush=True)
        except BaseException as error:
            failures.append(error)
            server.should_exit = True

    loading = threading.Thread(target=load, name="load", daemon=True)
    loading.start()
    try:
        server.run(sockets=[listening])
    finally:
        if app.state.server.service is not None:
            app.state.server.service.close()
    if failures:
        raise failures[0]


def _loaded(settings: Settings) -> Service:
    from sam3_image.decode import silence_libtiff
    from sam3_image.serving import Service

    silence_libtiff()
    service = Service(settings)
    service.start_caretaker()
    return service


def _opened_at(settings: WebSettings, listening: socket.socket) -> str:
    """The address at which a browser opens the page."""
    hint = "  (add #token= and SAM3_TOKEN's value)" if settings.token else ""
    if settings.public_url:
        return f"{settings.public_url.rstrip('/')}/{hint}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{listening.getsockname()[1]}/{hint}"


def _stop(*_: object) -> NoReturn:
    sys.exit()


if __name__ == "__main__":
    sys.exit(main())
