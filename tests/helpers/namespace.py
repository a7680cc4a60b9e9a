"""A network with loopback alone, for what listens on every address whatever it is told: Ray."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
from collections.abc import Sequence

INSIDE = "ALONE"  # is set in a process that runs there
LO_UP = struct.pack("16sh14x", b"lo", 0x49)  # IFF_UP | IFF_LOOPBACK | IFF_RUNNING
SIOCSIFFLAGS = 0x8914


def run_alone(command: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a network namespace of its own (root is needed); it calls `enter`."""
    environment = {**os.environ, INSIDE: "1"}
    return subprocess.run(["unshare", "-n", *command], env=environment, check=False, **options)  # type: ignore[call-overload]


def is_alone() -> bool:
    """Whether this process runs there."""
    return INSIDE in os.environ


def enter() -> None:
    """Switch the loopback on, in a process that `run_alone` started."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, LO_UP)
