"""`sam3-image fleet`: Ray and Serve on this machine, or on a cluster that runs already."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading

from sam3_image.errors import UserError, shown
from sam3_image.fleet.application import FleetOptions, application
from sam3_image.shipped import ROOT

LOCAL = "local"
NAME = "sam3-image"
QUIET = {"log_level": "WARNING", "enable_access_log": False}  # replicas have an access log of ours


def run_fleet(options: FleetOptions, address: str = LOCAL) -> None:
    """Deploy a fleet. Run again with the address of its Ray, it replaces the replicas one by one.

    address: "local" starts Ray here and returns after SIGTERM or SIGINT, when all requests are
        answered; "auto" or HOST:PORT deploys onto a Ray that runs already, and returns at once.
    Raises UserError.
    """
    _set_environment(address)
    app = application(options)  # refuses what cannot be before anything is started
    import ray
    from ray import serve

    _connect(address)
    stop = threading.Event()
    if address == LOCAL:
        for number in (signal.SIGINT, signal.SIGTERM):  # only now: Ray puts its own there
            signal.signal(number, lambda *_: stop.set())
    try:
        serve.start(
            proxy_location="EveryNode",
            http_options={"host": options.host, "port": options.port},
            logging_config=QUIET,
        )
        serve.run(app, name=NAME, route_prefix="/", logging_config=QUIET)
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(
            f"the fleet did not start ({str(error).splitlines()[0][:300]}): the reason stands in "
            "the log above"
        ) from None
    print(f"fleet: open http://{options.host}:{options.port}/", file=sys.stderr, flush=True)
    if address == LOCAL:
        stop.wait()
        serve.delete(NAME)  # answers what is in work; shutdown() alone would cut it off
        serve.shutdown()
        ray.shutdown()


def _set_environment(address: str) -> None:
    """What Ray reads when it is imported, and what its workers inherit."""
    paths = (str(ROOT), os.environ.get("PYTHONPATH", ""))  # where the workers find this package
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    home = os.path.expanduser("~")
    if address == LOCAL and not os.access(home, os.W_OK):  # Ray would keep its token there
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Ray listens on every interface, whatever it is told.
    if address == LOCAL or os.path.exists(f"{home}/.ray/auth_token"):
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _connect(address: str) -> None:
    import ray

    try:
        ray.init(address=address, include_dashboard=False if address == LOCAL else None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"Ray cannot be reached at {shown(address)} ({str(error).splitlines()[0][:200]}): "
            "check the address, and that RAY_AUTH_TOKEN is the cluster's"
        ) from None
