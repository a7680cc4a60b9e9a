"""A thread that looks after a server: probes its device, sweeps its folder, gives memory back.

Whoever asks for a server's health gets the answer of the last look at once: Cog handles nothing
else, not even a cancel, while it waits for that answer.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam3_image.serving.service import Service

# Without anybody asking, the folder is swept this often; a device that idles is left in peace.
SWEEP_SECONDS = 5.0
# Between two looks, however often somebody asks.
PAUSE_SECONDS = 0.2


class Keeper:
    """Looks after one service until `close()`, or until nobody else holds the service."""

    def __init__(self, service: Service) -> None:
        """Start looking; healthy until the first look says otherwise."""
        self._service = weakref.ref(service)
        self._healthy = True
        self._asked = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="keeper", daemon=True)
        self._thread.start()

    def healthy(self) -> bool:
        """Whether files can be written, and whether the device computed at the last look.

        Does not wait for the device, and has the thread look again now. A folder that vanished is
        made again.
        """
        self._asked.set()
        service = self._service()
        return service is not None and service.usable() and self._healthy

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()
        self._asked.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            asked = self._asked.wait(SWEEP_SECONDS)
            self._asked.clear()
            service = self._service()
            if service is None or self._closed.is_set():
                return
            service.tidy()
            if asked:
                self._healthy = service.computes()
            del service  # not held while this thread sleeps
            if self._closed.wait(PAUSE_SECONDS):
                return
