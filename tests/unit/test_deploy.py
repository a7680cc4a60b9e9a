"""The manifests of deploy/: each against its schema, and against what it starts.

Schemas that cannot be had from PyPI, and the configuration of nginx and systemd, are checked by
`tools/check_manifests.py`, by hand.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from sam3_image.settings import MAX_UPLOAD_BYTES
from sam3_image.web.state import GRACE_SECONDS
from tests.helpers.cog_server import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
DOCS = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
KUBERNETES = "1.34"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def pods() -> list[tuple[str, dict[str, Any]]]:
    """The specification of every pod that a manifest makes, with its name."""
    deployment, _ = documents("kubernetes.yaml")
    cluster = documents("rayservice.yaml")[0]["spec"]["rayClusterConfig"]
    return [
        ("Deployment", deployment["spec"]["template"]["spec"]),
        ("head", cluster["headGroupSpec"]["template"]["spec"]),
        *(("worker", one["template"]["spec"]) for one in cluster["workerGroupSpecs"]),
    ]


PODS = pytest.mark.parametrize("pod", [pod for _, pod in pods()], ids=[name for name, _ in pods()])


def test_kubernetes_accepts_the_manifests() -> None:
    """Its own schemas, without fields that they do not know."""
    kubernetes = pytest.importorskip("kubernetes_validate")
    for document in documents("kubernetes.yaml"):
        kubernetes.validate(document, KUBERNETES, strict=True)
    for name, pod in pods():  # those of RayService are pods, too
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name.lower()}, "spec": pod}
        kubernetes.validate(made, KUBERNETES, strict=True)
    made["spec"]["hostNetwrk"] = True
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(made, KUBERNETES, strict=True)


@PODS
def test_pods_have_no_rights_that_they_do_not_need(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    rights = container["securityContext"]
    assert rights["readOnlyRootFilesystem"] is True
    assert rights["allowPrivilegeEscalation"] is False
    assert rights["capabilities"] == {"drop": ["ALL"]}
    mounts = {one["mountPath"]: one.get("readOnly", False) for one in container["volumeMounts"]}
    assert mounts == {"/tmp": False, "/app/weights/sam3": True}
    assert "memory" in container["resources"]["limits"]
    tokens = [one for one in container["env"] if "TOKEN" in one["name"]]
    assert tokens, "others can reach the pod"
    assert all("secretKeyRef" in one["valueFrom"] for one in tokens)


def test_probes_see_whether_the_model_answers() -> None:
    (container,) = pods()[0][1]["containers"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[name]["httpGet"] == {"path": "/readyz", "port": "http"}, name
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= 300, "the weights take minutes"


def test_whoever_stops_a_server_waits_until_it_has_answered() -> None:
    pod = pods()[0][1]
    assert pod["terminationGracePeriodSeconds"] >= 2 * GRACE_SECONDS
    service = documents("compose.yaml")[0]["services"]["web"]
    assert int(service["stop_grace_period"].rstrip("s")) >= 2 * GRACE_SECONDS
    unit = (DEPLOY / "sam3-image.service").read_text(encoding="utf-8")
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.M)[0]) >= 2 * GRACE_SECONDS


def test_a_proxy_takes_what_the_server_takes() -> None:
    nginx = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    (size,) = re.findall(r"client_max_body_size (\d+)m;", nginx)
    assert int(size) << 20 == MAX_UPLOAD_BYTES


def test_compose_runs_the_image_of_this_repository() -> None:
    service = documents("compose.yaml")[0]["services"]["web"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    text = (REPOSITORY / "Containerfile").read_text(encoding="utf-8")
    assert f" AS {service['build']['target']}\n" in text
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_one_configuration_of_serve() -> None:
    (service,) = documents("rayservice.yaml")
    (configuration,) = documents("serve.yaml")
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == configuration
    pins = (REPOSITORY / "requirements-fleet.txt").read_text(encoding="utf-8")
    version = service["spec"]["rayClusterConfig"]["rayVersion"]
    assert f"ray[serve]=={version}\n" in pins
    (application,) = configuration["applications"]
    assert application["import_path"] == "sam3_image.fleet:application"


def test_serve_accepts_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc", reason="Ray Serve is not installed (requirements-fleet.txt)")
    from ray.serve.schema import ServeDeploySchema

    from sam3_image.errors import UserError
    from sam3_image.fleet import FleetOptions, application
    from sam3_image.fleet.application import DRAIN_SECONDS

    (configuration,) = documents("serve.yaml")
    schema = ServeDeploySchema.model_validate(configuration)
    options = schema.applications[0].args
    assert FleetOptions.model_validate(options).gpus == 1
    monkeypatch.setenv("SAM3_TOKEN", "")
    with pytest.raises(UserError, match="no token was set"):
        application(options)  # it is not known here that Serve listens on every address
    monkeypatch.setenv("SAM3_TOKEN", "x")
    assert application(options)
    for name, pod in pods()[1:]:
        assert pod["terminationGracePeriodSeconds"] > DRAIN_SECONDS, name


def test_the_page_names_every_manifest() -> None:
    for path in DEPLOY.iterdir():
        if path.suffix != ".pyc" and path.is_file():
            assert f"deploy/{path.name}" in DOCS, path.name
