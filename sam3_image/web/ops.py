"""To watch the server by: measures for Prometheus, and one line of the log for each request."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Info, Summary, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam3_image.report import LOG, Metrics
from sam3_image.web.problems import CLOSED, problem

if TYPE_CHECKING:  # torch takes seconds
    from sam3_image.serving import Service

REQUEST_ID = re.compile(r"[0-9A-Za-z._:-]{1,128}")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
UNKNOWN = "unknown"  # the route of a path that no route has: paths would grow without bound


@dataclass
class _Served:
    """What is known of the request that is being answered."""

    instances: int = 0


_CURRENT: ContextVar[_Served | None] = ContextVar("served", default=None)


class Measures:
    """What /metrics shows; no label takes a value that a request decides."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "sam3_requests",
            "HTTP requests answered",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Summary(
            "sam3_request_seconds", "Duration of HTTP requests", ("route",), registry=registry
        )
        self._stages = Summary(
            "sam3_stage_seconds",
            "Time in each stage of a prediction",
            ("stage",),
            registry=registry,
        )
        self._encodings = Counter(
            "sam3_encodings", "Images encoded or found in the cache", ("cache",), registry=registry
        )
        self._instances = Counter("sam3_instances", "Instances found", registry=registry)
        self._queue = Gauge("sam3_queue_length", "Predictions that wait or run", registry=registry)
        self._model = Info("sam3_model", "The model and where it runs", registry=registry)

    def watch(self, service: Service) -> None:
        """Show a service's queue and model."""
        self._queue.set_function(lambda: float(service.unfinished))
        self._model.info(
            {
                "name": service.source.name,
                "device": str(service.placement.device),
                "dtype": str(service.placement.dtype).removeprefix("torch."),
            }
        )

    def record(self, metrics: Metrics) -> None:
        """Count a prediction by the metrics of its report."""
        for name, value in metrics.items():
            if name.startswith("timing."):
                self._stages.labels(name.removeprefix("timing.")).observe(float(value))
        if "encoder_cached" in metrics:
            self._encodings.labels("hit" if metrics["encoder_cached"] else "miss").inc()
        instances = int(metrics.get("instances", 0))
        self._instances.inc(instances)
        served = _CURRENT.get()
        if served is not None:
            served.instances += instances

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All measures in Prometheus' text format."""
        return generate_latest(self.registry)


class Watch:
    """Counts each request, writes its line of the log, and gives it an id.

    The line holds the method, the declared route, the status, milliseconds, instances and the id,
    and nothing that the request said.
    """

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app = app
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        served, status, begin = _Served(), 0, time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        token = _CURRENT.set(served)
        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:  # the server stops, and this request outlived its grace
            if not status:
                answer = problem(503, "The server is stopping: try again later.")
                await answer(scope, receive, send_with_id)
        finally:
            _CURRENT.reset(token)
            seconds = time.perf_counter() - begin
            self._report(scope, status or CLOSED, seconds, served, request_id)

    def _report(
        self, scope: Scope, status: int, seconds: float, served: _Served, request_id: str
    ) -> None:
        route = getattr(scope.get("route"), "path", UNKNOWN)
        method = scope["method"] if scope["method"] in METHODS else UNKNOWN
        self._measures.count(method, route, status, seconds)
        fields = {
            "method": method,
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "instances": served.instances,
            "request_id": request_id,
        }
        line = " ".join(f"{name}={value}" for name, value in fields.items())
        LOG.info("request %s", line, extra={"fields": fields})
