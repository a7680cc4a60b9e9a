"""The web server from a terminal: `script/web [--host HOST] [--port PORT]`."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import NoReturn

from sam3_image.errors import UserError
from sam3_image.settings import DEFAULT_HOST, DEFAULT_PORT, Settings, WebSettings

USAGE_ERROR = 2
BACKLOG = 64
# After this many seconds a stopping server no longer waits for the requests that still run.
GRACE_SECONDS = 10


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the page of options before it."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; allowed: --host HOST, --port PORT")


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the model and serve until interrupted; returns the exit status."""
    parser = _Parser(prog="script/web", description="The page to try SAM 3 by hand.")
    parser.add_argument("--host", default=DEFAULT_HOST, help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=DEFAULT_PORT, type=int, help="port (%(default)s)")
    try:
        given = parser.parse_args(arguments)
        settings = WebSettings.from_environment(os.environ, given.host, given.port)
        _serve(settings, _listen(settings))
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


def _serve(settings: WebSettings, listening: socket.socket) -> None:
    # Imported late: torch takes seconds, and neither --help nor a taken port needs it.
    import uvicorn

    from sam3_image.decode import silence_libtiff
    from sam3_image.report import log_to_stdout
    from sam3_image.serving import Service
    from sam3_image.web.app import create_app

    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises it again when it has ended
        signal.signal(number, _stop)
    silence_libtiff()
    log_to_stdout()
    service = Service(Settings.from_environment(os.environ))
    service.start_caretaker()
    config = uvicorn.Config(
        create_app(service, settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    port = listening.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    hint = "  (add #token= and SAM3_TOKEN's value)" if settings.token else ""
    print(f"web: open http://{host}:{port}/{hint}", file=sys.stderr, flush=True)
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        service.close()


def _stop(*_: object) -> NoReturn:
    sys.exit()


if __name__ == "__main__":
    sys.exit(main())
