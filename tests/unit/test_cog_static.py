"""What `cog build` reads without running anything: predict.py, cog.yaml, .dockerignore.

Nobody can run `cog build` where there is no Docker; these tests hold what it would hold.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
import typing
from typing import Any

import jsonschema
import pytest
import yaml

from sam3_image.cli.serve import MAX_CONCURRENCY
from tests.helpers.cog_server import REPOSITORY, SLOTS
from tools.cog_schema.openapi import document
from tools.cog_schema.signature import NO_DEFAULT, StaticRuleError, read_signature

SOURCE = (REPOSITORY / "predict.py").read_text(encoding="utf-8")
CONFIG_SCHEMA = REPOSITORY.parent / "shared" / "cog-config-schema-v1.0.json"

# The drop-in interface: name, kind, default, limits.
FIRST_EIGHT = [
    ("image", "Path", NO_DEFAULT, None),
    ("prompt", "str", "person", None),
    ("threshold", "float", 0.5, (0, 1)),
    ("save_overlay", "bool", False, None),
    ("mask_only", "bool", False, None),
    ("return_zip", "bool", True, None),
    ("mask_opacity", "float", 0.5, (0, 1)),
    ("mask_color", "str", "green", None),
]

MINIMAL = """
from cog import BasePredictor, Input, Path
CHOICES = ["a", "b"]
COMPUTED = [letter for letter in "ab"]

class Predictor(BasePredictor):
    def predict(
        self,
        image: Path = Input(description="An image"),
        size: int = Input(default=3, ge=1, le=9, description="A size"),
        name: str = Input(default="a", choices=CHOICES),
    ) -> Path:
        return image
"""


def test_predict_keeps_the_static_rules() -> None:
    signature = read_signature(SOURCE)
    assert signature.output == "Path"
    assert all(item.description for item in signature.inputs)
    assert [item.name for item in signature.inputs if item.required] == ["image"]


def test_first_eight_inputs_are_the_drop_in_interface() -> None:
    found = [
        (
            item.name,
            item.kind,
            item.default,
            (item.limits["ge"], item.limits["le"]) if "ge" in item.limits else None,
        )
        for item in read_signature(SOURCE).inputs[:8]
    ]
    assert found == FIRST_EIGHT
    colours = read_signature(SOURCE).inputs[7].choices
    assert set(colours) >= {"green", "red", "blue", "yellow", "cyan", "magenta"}


def test_the_minimal_predictor_is_read() -> None:
    image, size, name = read_signature(MINIMAL).inputs
    assert image.required
    assert (size.default, dict(size.limits)) == (3, {"ge": 1, "le": 9})
    assert name.choices == ("a", "b")


def test_the_number_of_slots_is_the_same_everywhere() -> None:
    """`cog build` takes it from the decorator; Cog's server alone knows only the variable."""
    slots = read_signature(SOURCE).concurrency
    assert slots > 1
    assert int(MAX_CONCURRENCY) == int(SLOTS) == slots
    assert "concurrency" not in _config(), "cog.yaml would win over the decorator"


def test_async_predictors_are_read() -> None:
    source = MINIMAL.replace("    def predict", "    @concurrent(max=4)\n    async def predict")
    assert read_signature(source).concurrency == 4
    assert read_signature(MINIMAL.replace("def predict", "async def predict")).concurrency == 1


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('description="A size"', 'description=f"A size"', "one plain string"),
        ('description="A size"', 'description="A " "size"', "one plain string"),
        ('description="A size"', 'description=("A size")', "one plain string"),
        ('description="A size"', "description=TEXT", "one plain string"),
        ("default=3", "default=1 + 2", "not a literal"),
        ("default=3", "default=SIZE", "not a literal"),
        ("default=3", "default_factory=list", "not read"),
        ("ge=1", "ge=-(-1)", "not a literal"),
        ("le=9", "le=CHOICES", "not a literal"),
        ("le=9", 'le="9"', "literal number"),
        ("choices=CHOICES", "choices=COMPUTED", "not a literal"),
        ("choices=CHOICES", "choices=[]", "not empty"),
        ("size: int", "size: Literal[3]", "not a type"),
        ("size: int", "size: list[list[int]]", "not a type"),
        ("size: int =", "size =", "no type annotation"),
        ("-> Path", "-> Optional[Path]", "return a plain type"),
        ("import BasePredictor, Input, Path", "import Input\nfrom pathlib import Path", "from cog"),
        ("Input, Path", "Input, Path as File", "own name"),
        ("def predict(", "def run(self): ...\n    def predict(", "not both"),
        ("Input(default=3, ", "Input(3, ", "keywords only"),
        ("    def predict", "    @concurrent(max=4)\n    def predict", "async def"),
        ("    def predict", "    @concurrent(max=LIMIT)\n    async def predict", "literal"),
        ("    def predict", "    @concurrent(max=0)\n    async def predict", "at least 1"),
        ("    def predict", "    @concurrent(4)\n    async def predict", "by name"),
        ("    def predict", "    @timed\n    async def predict", "no decorator but"),
    ],
)
def test_what_cog_would_drop_is_refused(old: str, new: str, complaint: str) -> None:
    assert old in MINIMAL
    with pytest.raises(StaticRuleError, match=complaint):
        read_signature(MINIMAL.replace(old, new))


def test_document_says_what_cog_reads_at_run_time() -> None:
    """The static reading against Python's own: two independent ways to the same inputs."""
    from predict import Predictor

    properties = document(read_signature(SOURCE))["components"]["schemas"]["Input"]["properties"]
    parameters = list(inspect.signature(Predictor.predict).parameters.values())[1:]
    hints = typing.get_type_hints(Predictor.predict)
    assert list(properties) == [parameter.name for parameter in parameters]
    for order, parameter in enumerate(parameters):
        found, field = properties[parameter.name], parameter.default
        assert found["x-order"] == order
        assert found["description"] == field.description
        assert found.get("default") == field.default
        assert (found.get("minimum"), found.get("maximum")) == (field.ge, field.le)
        assert (found.get("minLength"), found.get("maxLength")) == (
            field.min_length,
            field.max_length,
        )
        optional = type(None) in typing.get_args(hints[parameter.name])
        assert found.get("nullable", False) == optional
        assert _enum(found) == field.choices


def _enum(found: dict[str, Any]) -> list[Any] | None:
    if "allOf" not in found:
        return None
    name = found["allOf"][0]["$ref"].rpartition("/")[2]
    return document(read_signature(SOURCE))["components"]["schemas"][name]["enum"]


def test_document_is_whole() -> None:
    made = document(read_signature(SOURCE))
    schemas = made["components"]["schemas"]
    text = json.dumps(made)
    for name in re.findall(r'"#/components/schemas/([^"]+)"', text):
        assert name in schemas, f"a $ref to {name} leads nowhere"
    assert schemas["Input"]["required"] == ["image"]
    assert schemas["Input"]["properties"]["image"]["format"] == "uri"
    assert schemas["Input"]["properties"]["prompts"]["items"] == {"type": "string"}
    assert schemas["Output"] == {"title": "Output", "type": "string", "format": "uri"}
    assert {"/predictions", "/predictions/{prediction_id}", "/health-check"} <= set(made["paths"])


@pytest.mark.parametrize(
    ("values", "valid"),
    [
        ({}, True),
        ({"threshold": 0}, True),
        ({"threshold": 1.01}, False),
        ({"mask_color": "cyan"}, True),
        ({"mask_color": "mauve"}, False),
        ({"prompts": ["a", "b"]}, True),
        ({"prompts": [1]}, False),
        ({"prompt": "x" * 500}, True),
        ({"prompt": "x" * 501}, False),
        ({"input_size_percent": 24}, False),
        ({"image": None}, False),
    ],
)
def test_document_accepts_and_refuses(values: dict[str, Any], valid: bool) -> None:
    made = document(read_signature(SOURCE))
    schema = {**made, "$ref": "#/components/schemas/Input"}
    errors = list(jsonschema.Draft7Validator(schema).iter_errors({"image": "data:,", **values}))
    assert (not errors) == valid, errors


def test_cog_yaml_is_valid() -> None:
    if not CONFIG_SCHEMA.is_file():
        # Cog's own file, not ours to ship, and nowhere to be fetched from while testing.
        pytest.skip(f"Cog's schema of cog.yaml is not at ../shared/{CONFIG_SCHEMA.name}")
    jsonschema.validate(_config(), json.loads(CONFIG_SCHEMA.read_text()))


def test_cog_yaml_fits_the_repository() -> None:
    config, pins = _config(), _pins("requirements.txt")
    file, _, class_name = config["predict"].partition(":")
    read_signature((REPOSITORY / file).read_text(encoding="utf-8"), class_name)
    build = config["build"]
    assert build["gpu"] is True
    assert build["python_version"] == "{}.{}".format(*sys.version_info[:2])
    assert (REPOSITORY / build["python_requirements"]).is_file()
    # The newest pair for which Cog knows a CUDA image; a newer one fails the build.
    assert (pins["torch"], pins["torchvision"]) == ("2.11.0", "0.26.0")
    # The versions of CUDA that this torch is built for. Another change of driver: docs/deploy.md.
    assert build["cuda"] in ("12.6", "12.8", "13.0")
    # Cog takes `cog` out of the requirements and installs this one.
    assert build["sdk_version"] == pins["cog"]


def test_cog_yaml_holds_no_secret() -> None:
    for entry in _config().get("environment", []):
        assert not re.search(r"TOKEN|KEY|SECRET|PASSWORD", entry.partition("=")[0], re.I)


def test_every_requirement_is_pinned_and_names_no_address() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        assert _pins(name), f"{name} is empty"


def _config() -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "cog.yaml").read_text())


def _pins(name: str) -> dict[str, str]:
    pins = {}
    for line in (REPOSITORY / name).read_text().splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z0-9,]+\])?==([A-Za-z0-9._]+)", line)
            assert match, f"{name}: {line!r} is not NAME==VERSION"
            pins[match[1]] = match[2]
    return pins
