"""The packages of sam3_image: imports run downwards, and each library is known in one place."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.cog_server import REPOSITORY

PACKAGE = REPOSITORY / "sam3_image"
# From the bottom to the top; what shares a line does not import each other.
ORDER = (
    ("errors", "report", "shipped"),
    ("settings",),
    ("decode",),
    ("masks",),
    ("model",),
    ("output", "crops"),
    ("request", "instances"),
    ("pipeline",),
    ("serving",),
    ("sam",),
    ("__init__", "web"),
    ("batch", "fleet"),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
# Where a library may be imported.
HOMES = {
    "transformers": {"model"},
    "cog": {"serving"},
    "fastapi": {"web"},
    "starlette": {"web", "fleet"},
    "uvicorn": {"web"},
    "httpcore": {"web"},
    "prometheus_client": {"web"},
    "ray": {"batch", "fleet"},
    "pyarrow": {"batch"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))
OUR_FOLDERS = ("tools", "benchmarks", "examples", "tests")
EVERYTHING = sorted(
    [REPOSITORY / "predict.py", *MODULES]
    + [path for folder in OUR_FOLDERS for path in (REPOSITORY / folder).rglob("*.py")]
)


def place(path: Path) -> str:
    """The package, or the module at the top, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, modules: bool = False) -> Iterator[tuple[str, ...]]:
    """The parts of every module name that a file imports, at once, later, or for types alone.

    modules: what is named after "import" counts, too, where it is a module.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            parts = tuple((node.module or "").split("."))
            for alias in node.names:  # a name may be a module, too
                whole = (*parts, alias.name)
                yield whole if (modules or len(parts) == 1) and _is_module(whole) else parts


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards_and_stop_at_the_package(path: Path) -> None:
    own = place(path)
    for parts in imports(path):
        if parts[0] != "sam3_image" or len(parts) == 1 or parts[1] == own:
            continue
        other = parts[1]
        assert other in LEVEL, f"{other} has no place in the order"
        assert LEVEL[other] < LEVEL[own], f"{own} imports {other}, which is not below it"
        assert len(parts) == 2, f"{'.'.join(parts)} is inside of {other}: import from the package"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_is_known_in_its_place(path: Path) -> None:
    for parts in imports(path):
        homes = HOMES.get(parts[0])
        assert homes is None or place(path) in homes, f"{parts[0]} is imported in {place(path)}"


def test_nothing_imports_in_a_circle_within_a_package() -> None:
    names = {_dotted(path): path for path in MODULES}
    edges = {
        name: {".".join(parts) for parts in imports(path, modules=True)} & names.keys() - {name}
        for name, path in names.items()
    }
    finished: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " → ".join([*above, name])
        if name not in finished:
            for other in edges[name]:
                visit(other, (*above, name))
            finished.add(name)

    for name in names:
        if names[name].name != "__init__.py":
            visit(name, ())


def test_a_newcomer_finds_the_place_of_a_thing() -> None:
    found = [p for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()]
    assert len(found) <= 20
    folders = {path.name for path in found if path.is_dir()}
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.M)) == folders
    for folder in folders:
        source = (PACKAGE / folder / "__init__.py").read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(source)), f"{folder} does not say what it does"


def test_a_function_fits_on_one_screen() -> None:
    too_long = []
    for path in EVERYTHING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                too_long += [(path, node.name)] if length > 60 else []
    # Every input of predict() is declared there, with a description each, and handed on.
    assert too_long == [(REPOSITORY / "predict.py", "predict")]


def _is_module(parts: tuple[str, ...]) -> bool:
    path = REPOSITORY.joinpath(*parts)
    return parts[0] == "sam3_image" and (path.with_suffix(".py").is_file() or path.is_dir())


def _dotted(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# Names that a protocol of ours or of a library defines.
PROTOCOLS = {
    "encode",  # CropModel and what stands in for it; formats' own encoders
    "load",  # WorkerPool
    "run",  # WorkerPool
    "submit",  # WorkerPool
    "read",  # a file object
    "model_post_init",  # pydantic.BaseModel
    "segment",  # CropModel, and the services over it
    "mask",  # MaskSource
    "take",  # MaskSource
    "forward",  # torch.nn.Module
    "of",  # a constructor from one other thing
    "close",  # contextlib.closing
    "main",  # a command
}


def _definitions() -> tuple[dict[str, list[str]], dict[str, set[str]]]:
    """Where each class of the package, and each function and method, is defined."""
    classes: dict[str, list[str]] = defaultdict(list)
    functions: dict[str, set[str]] = defaultdict(set)
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        where = str(path.relative_to(PACKAGE))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(where)
                for member in node.body:
                    if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                        functions[member.name].add(f"{where}:{node.name}")
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions[node.name].add(where)
    return classes, functions


def test_no_two_classes_share_a_name() -> None:
    classes, _ = _definitions()
    assert {name: places for name, places in classes.items() if len(places) > 1} == {}


def test_one_verb_means_one_thing() -> None:
    _, functions = _definitions()
    common = {
        name: sorted(places)
        for name, places in functions.items()
        if len(places) > 4 and not name.startswith("_") and name not in PROTOCOLS
    }
    assert common == {}
