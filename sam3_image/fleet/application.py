"""How many replicas there are, with what each, and how Serve treats them."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from sam3_image.settings import DEFAULT_PORT, Settings, WebSettings

if TYPE_CHECKING:
    from ray import serve

# Serve's own router for requests that belong together; marked experimental, so Ray is pinned. It
# tries no other replica: there an image would be encoded again, and what was kept is missing.
ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
IN_WORK = 16  # requests that a replica has in work; its own line gives them their turn
ENCODED = 4  # of those, as many as keep a replica busy: above it, another is started
DRAIN_SECONDS = 60.0  # that a replica gets to answer what it has when it is to end
HEALTH_SECONDS = 5.0


class FleetOptions(BaseModel):
    """Options of a fleet: those of `sam3-image fleet`, and `args` in a Serve configuration.

    host: where Serve listens. replicas: of the model; with max_replicas, the fewest of them.
    cpus, gpus: of each replica. edges: processes that take requests, on different nodes where
    there are several.
    """

    model_config = ConfigDict(extra="forbid")

    host: str = "0.0.0.0"
    port: int = DEFAULT_PORT
    replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(default=None, ge=1)
    cpus: float = Field(default=1, ge=0)
    gpus: float = Field(default=0, ge=0)
    edges: int = Field(default=2, ge=1)


def application(arguments: FleetOptions | dict[str, Any]) -> serve.Application:
    """The application that Serve deploys, for the command and for Serve's own configurations.

    arguments: a configuration's `args`. The variables are read here, those of the web server too.
    A configuration does not say here where Serve listens: `host` is every address unless it is
    given, so SAM3_TOKEN must be set. Raises UserError.
    """
    # Imported late: Ray reads the environment, which the command changes, when it is imported.
    from ray import serve

    from sam3_image.fleet.deployments import RETRY_SECONDS, Edge, Model

    options = FleetOptions.model_validate(arguments)
    model = Settings.from_environment(os.environ)
    web = WebSettings.from_environment(os.environ, options.host, options.port)
    # In a fleet the line before a replica is what is limited.
    inner = replace(web, max_waiting=max(IN_WORK, web.max_waiting))
    count: dict[str, Any] = {"num_replicas": options.replicas}
    if options.max_replicas:
        count = {
            "autoscaling_config": {
                "min_replicas": options.replicas,
                "max_replicas": max(options.replicas, options.max_replicas),
                "target_ongoing_requests": ENCODED,
            }
        }
    line: dict[str, Any] = {
        "max_queued_requests": web.max_waiting,
        "backpressure_config": {"status_code": 429, "retry_after_s": RETRY_SECONDS},
    }
    replicas: Any = serve.deployment(
        Model,
        name="Model",
        max_ongoing_requests=IN_WORK,
        request_router_config={
            "request_router_class": ROUTER,
            "request_router_kwargs": {"num_fallback_replicas": 0},
        },
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        health_check_period_s=HEALTH_SECONDS,
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        **count,
        **line,
    )
    edges: Any = serve.deployment(
        Edge,
        name="Edge",
        num_replicas=options.edges,
        request_router_config={"request_router_class": ROUTER},
        # Every request holds its body, so their number is what bounds the memory.
        max_ongoing_requests=web.max_waiting + IN_WORK * (options.max_replicas or options.replicas),
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        ray_actor_options={"num_cpus": 0},
        **line,
    )
    return edges.bind(replicas.bind(model, inner), web)
