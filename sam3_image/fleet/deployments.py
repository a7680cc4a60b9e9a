"""The two deployments of a fleet: `Edge` takes requests, `Model` answers them."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from ray.serve.metrics import Gauge
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sam3_image.fleet.routing import Route, route_of
from sam3_image.report import LOG, log_to_stdout
from sam3_image.settings import JSON, Settings, WebSettings
from sam3_image.web import (
    BODY_SECONDS,
    OPEN_PATHS,
    ROUTING_KEY,
    Guard,
    RequireToken,
    behind_proxy,
    create_app,
    problem,
)

# The parts of an ASGI scope that travel to a replica; the others are objects of this process.
SCOPE = (
    *("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "headers"),
    *("client", "server", "root_path", "sam3.forwarded_host"),
)
# Lists of what is kept, which every replica has a part of: under this name in each answer.
LISTS = {"/v1/predictions": "results", "/v1/files": "results", "/api/ai/queue": "generations"}
AGAIN = "again"  # the session of all requests that are tried again
SET_ASIDE_SECONDS = 600
RETRY_SECONDS = 1
NO_METRICS = (
    "Each replica has measures of its own: Prometheus finds them, as ray_sam3_…, at the metrics "
    "port of each Ray node (docs/deploy.md)."
)
ENDED = "The replica that worked on this request has ended: send it again."
KILLS = (
    "Two replicas ended while they worked on this image, so it is not tried again within "
    f"{SET_ASIDE_SECONDS // 60} minutes: send another, or the same in another format or size."
)


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer of a replica."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Model:
    """A replica: the web server's application around a model of its own."""

    def __init__(self, settings: Settings, web: WebSettings) -> None:
        """Load the model; raises UserError, which Serve shows as the reason of a failed start."""
        # Imported late: the process that deploys this needs no torch.
        from sam3_image.decode import silence_libtiff
        from sam3_image.serving import Service

        log_to_stdout(as_json=settings.log_format == JSON)
        silence_libtiff()
        self._service = Service(settings)
        self._service.start_caretaker()
        self._app = create_app(self._service, web)
        self._state = self._app.state.server
        self._gauges: dict[str, Gauge] = {}

    async def answer(
        self, scope: Scope, body: bytes, key: str = "", lent: dict[str, Any] | None = None
    ) -> Answer:
        """Answer one request. Canceling this says that its client has left.

        key: what ids that are given out now end in. lent: what `lend` of other replicas gave.
        """
        for id, item in (lent or {}).items():
            self._keep(id, item)
        ROUTING_KEY.set(key)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Message] = []

        async def receive() -> Message:
            if not messages:
                await asyncio.Event().wait()
            return messages.pop()

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        start = sent[0]
        return Answer(
            start["status"],
            list(start.get("headers", ())),
            b"".join(one.get("body", b"") for one in sent[1:]),
        )

    async def lend(self, id: str) -> Any:
        """The decoded image or the uploaded file of that id, or None."""
        return self._state.images.find(id) or self._state.store("file").find(id)

    def _keep(self, id: str, item: Any) -> None:
        if hasattr(item, "pixels"):
            self._state.images.put(id, item, item.pixels.nbytes)
        elif item is not None:
            self._state.store("file").put(id, item, len(item.data))

    def check_health(self) -> None:
        """Raise where the device is lost, so that Serve starts another; Serve asks regularly.

        The measures are given to Ray at the same time.
        """
        for family in self._state.measures.registry.collect():
            for sample in family.samples:
                if sample.name.startswith("sam3_"):
                    if sample.name not in self._gauges:
                        names = tuple(sample.labels)
                        self._gauges[sample.name] = Gauge(
                            sample.name, family.documentation, tag_keys=names
                        )
                    self._gauges[sample.name].set(sample.value, dict(sample.labels))
        if not self._service.healthy():
            raise RuntimeError("the device was lost, or no files can be written")

    async def __del__(self) -> None:
        """Let the jobs end; Serve calls this when all requests are answered."""
        await self._state.finish()
        self._service.close()


@serve.ingress()
class Edge:
    """Takes requests: checks them as the web server does, and passes each on to its replica."""

    def __init__(self, model: DeploymentHandle, settings: WebSettings) -> None:
        """In front of the replicas of `model`."""
        log_to_stdout()
        self._model = model
        self._settings = settings
        here = serve.get_replica_context()
        self._edges = serve.get_deployment_handle(here.deployment, here.app_name)
        self._one_at_a_time = asyncio.Lock()
        self._set_aside: TTLCache[str, bool] = TTLCache(10_000, SET_ASIDE_SECONDS)

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """What Serve calls for each request."""
        token = RequireToken(self._checked, self._settings.token, OPEN_PATHS)
        guard = Guard(token, self._settings)

        async def prefixed(scope: Scope, receive: Receive, send: Send) -> None:
            await guard({**scope, "root_path": self._settings.root_path}, receive, send)

        trusted = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
        return behind_proxy(prefixed, trusted)

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _read(receive)
        except TimeoutError:
            answer = problem(
                408, f"The body did not arrive within {BODY_SECONDS} s: send it again."
            )
        except HTTPException as error:
            answer = problem(error.status_code, str(error.detail))
        else:
            answer = await self._answer(scope, body)
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, body: bytes) -> Response:
        path = str(scope["path"]).removeprefix(scope["root_path"])
        sent = {name: scope[name] for name in SCOPE if name in scope}
        route = Route(None)
        if path == "/metrics":
            return problem(404, NO_METRICS)
        try:
            if scope["method"] == "GET" and path in LISTS:
                return await self._joined(sent, LISTS[path])
            route = await route_of(scope, path, body)
            if route.key in self._set_aside:
                return problem(422, KILLS)
            answer = await self._asked(sent, body, route)
            return problem(422, KILLS) if answer is None else _response(answer)
        except BackPressureError as error:
            return problem(
                429,
                f"{error.args[0]} requests are waiting, which is the limit "
                "(SAM3_WEB_MAX_WAITING where the fleet runs): try again later.",
                {"Retry-After": str(RETRY_SECONDS)},
            )
        except RayActorError:
            return problem(503, ENDED, {"Retry-After": str(RETRY_SECONDS)})

    async def _asked(self, scope: Scope, body: bytes, route: Route) -> Answer | None:
        """The answer of the route's replica; None where two of them ended over it.

        Raises RayActorError where one ended and the request must not be repeated.
        """
        try:
            return await self._once(scope, body, route)
        except RayActorError as error:
            LOG.warning("a replica ended over %s: %s", route.key, error)
            if not route.repeatable:
                raise
        # One Edge tries again for all, one request at a time: a replica that then ends has ended
        # over this one, and not over what else it had in work.
        answer: Answer | None = await self._edges.options(session_id=AGAIN).again.remote(
            scope, body, route
        )
        return answer

    async def again(self, scope: Scope, body: bytes, route: Route) -> Answer | None:
        """The same for another Edge whose replica has ended over the request."""
        async with self._one_at_a_time:
            if route.key in self._set_aside:
                return None
            try:
                return await self._once(scope, body, route)
            except RayActorError as error:
                LOG.warning("another replica ended over %s: %s", route.key, error)
            if route.key:
                await self._edges.broadcast("set_aside", route.key).results_async()
            return None

    async def set_aside(self, key: str) -> None:
        """Refuse requests of this key from now on."""
        self._set_aside[key] = True

    async def _once(self, scope: Scope, body: bytes, route: Route) -> Answer:
        model = self._model.options(session_id=route.key) if route.key else self._model
        lent = {id: await self._lent(id) for id in route.others}
        answer: Answer = await model.answer.remote(scope, body, route.key or "", lent)
        return answer

    async def _lent(self, id: str) -> Any:
        return await self._model.options(session_id=id[-32:]).lend.remote(id)

    async def _joined(self, scope: Scope, name: str) -> Response:
        """The lists of all replicas as one."""
        answers = await self._model.broadcast("answer", scope, b"").results_async()
        first = answers[0]
        if any(one.status != 200 for one in answers):
            return _response(first)
        whole = json.loads(first.body)
        whole[name] = [item for one in answers for item in json.loads(one.body)[name]]
        return Response(json.dumps(whole), media_type="application/json")


async def _read(receive: Receive) -> bytes:
    """The body of a request; raises HTTPException where it is too long."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        more = bool(message.get("more_body"))
    return b"".join(parts)


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = list(answer.headers)
    return response
