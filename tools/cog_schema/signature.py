"""`predict.py` as text → the declared inputs, refusing whatever Cog would silently drop.

Cog's static parser drops what it cannot read: an f-string as a description, a computed bound, a
default from another module (the field then turns required). Here each of these is an error.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

JSON_TYPES = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "Path": {"type": "string", "format": "uri"},
}
NUMBERS = ("ge", "le", "min_length", "max_length")
STRINGS = ("description", "regex")
NO_DEFAULT = object()

Method = ast.FunctionDef | ast.AsyncFunctionDef


class StaticRuleError(ValueError):
    """`predict.py` holds something that Cog's static parser would drop or refuse."""


@dataclass(frozen=True)
class DeclaredInput:
    """One input of `predict()`, as Cog's static parser sees it.

    kind: a key of `JSON_TYPES`; of the elements where `repeated`.
    default: `NO_DEFAULT` where none is declared, which makes the input required.
    limits: those of ge, le, min_length, max_length, regex that are declared.
    """

    name: str
    kind: str
    optional: bool = False
    repeated: bool = False
    default: Any = NO_DEFAULT
    description: str | None = None
    choices: tuple[str | int, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)

    @property
    def required(self) -> bool:
        """True when a request without this input is refused."""
        return self.default is NO_DEFAULT and not self.optional


@dataclass(frozen=True)
class Signature:
    """The inputs in their order, the kind of the output, and how many requests run at once.

    concurrency: the `max` of `@concurrent`, from which `cog build` sets COG_MAX_CONCURRENCY.
    """

    inputs: tuple[DeclaredInput, ...]
    output: str
    concurrency: int = 1


def read_signature(source: str, class_name: str = "Predictor") -> Signature:
    """Return the signature of `class_name.predict` in `source`; raises `StaticRuleError`."""
    tree = ast.parse(source)
    module = _Module(source, _literal_constants(tree))
    methods = _methods(tree, class_name)
    if ("run" in methods) == ("predict" in methods):
        raise StaticRuleError(f"{class_name} must define either predict() or run(), and not both")
    predict = methods.get("predict") or methods["run"]
    _only_from_cog(tree, "Path", "Input", "concurrent")
    arguments = predict.args
    if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.posonlyargs:
        raise StaticRuleError("predict() may only take plain named arguments")
    names = arguments.args[1:]  # without self
    defaults: list[ast.expr | None] = [None] * (len(names) - len(arguments.defaults))
    inputs = tuple(
        module.declared(argument, default)
        for argument, default in zip(names, defaults + list(arguments.defaults), strict=True)
    )
    if not isinstance(predict.returns, ast.Name) or predict.returns.id not in JSON_TYPES:
        raise StaticRuleError("predict() must return a plain type, for example -> Path")
    return Signature(inputs=inputs, output=predict.returns.id, concurrency=_concurrency(predict))


@dataclass(frozen=True)
class _Module:
    source: str
    constants: Mapping[str, Any]

    def declared(self, argument: ast.arg, default: ast.expr | None) -> DeclaredInput:
        name = argument.arg
        kind, optional, repeated = _kind(name, argument.annotation)
        known: dict[str, Any] = {}
        if isinstance(default, ast.Call):
            known = self._call(name, default)
        elif default is not None:
            known = {"default": self._literal(name, "default", default)}
        choices = tuple(known.pop("choices", ()))
        return DeclaredInput(
            name=name,
            kind=kind,
            optional=optional,
            repeated=repeated,
            default=known.pop("default", NO_DEFAULT),
            description=known.pop("description", None),
            choices=choices,
            limits=known,
        )

    def _call(self, name: str, call: ast.Call) -> dict[str, Any]:
        if not isinstance(call.func, ast.Name) or call.func.id != "Input":
            raise StaticRuleError(f"input {name!r}: the default must be a literal or Input(...)")
        if call.args:
            raise StaticRuleError(f"input {name!r}: Input() takes keywords only")
        return {
            str(keyword.arg): self._value(name, str(keyword.arg), keyword)
            for keyword in call.keywords
        }

    def _value(self, name: str, key: str, keyword: ast.keyword) -> Any:
        if key in STRINGS:
            self._single_string(name, key, keyword)
            return ast.literal_eval(keyword.value)
        if key in NUMBERS:
            value = self._literal(name, key, keyword.value, follow=False)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise StaticRuleError(f"input {name!r}: {key} must be a literal number")
            return value
        if key == "choices":
            value = self._literal(name, key, keyword.value)
            if not isinstance(value, (list, tuple)) or not value:
                raise StaticRuleError(f"input {name!r}: choices must be a list, not empty")
            return value
        if key == "default":
            return self._literal(name, key, keyword.value)
        raise StaticRuleError(f"input {name!r}: Input({key}=…) is not read by this parser")

    def _literal(self, name: str, key: str, node: ast.expr, follow: bool = True) -> Any:
        if follow and isinstance(node, ast.Name) and node.id in self.constants:
            return self.constants[node.id]
        try:
            return ast.literal_eval(node)
        except ValueError:
            raise StaticRuleError(
                f"input {name!r}: {key}={ast.unparse(node)} is not a literal "
                f"(nor, where Cog follows one, a literal constant of the same file)"
            ) from None

    def _single_string(self, name: str, key: str, keyword: ast.keyword) -> None:
        # After parsing, "a" "b" and ("a") look like "a": only the tokens tell.
        text = ast.get_source_segment(self.source, keyword) or ""
        tokens = tokenize.generate_tokens(io.StringIO(text.partition("=")[2].strip()).readline)
        kinds = [token.type for token in tokens if token.string.strip()]
        plain = isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str)
        if kinds != [tokenize.STRING] or not plain:
            raise StaticRuleError(
                f"input {name!r}: {key} must be one plain string literal, or Cog drops it"
            )


def _concurrency(predict: Method) -> int:
    """The number in `@concurrent(max=…)`; more than 1 needs `async def`."""
    found = 1
    for decorator in predict.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        if call is None or _name(call.func) != "concurrent":
            raise StaticRuleError(
                f"predict() may have no decorator but @concurrent(max=…), not "
                f"@{ast.unparse(decorator)}"
            )
        if call.args or [keyword.arg for keyword in call.keywords] != ["max"]:
            raise StaticRuleError("@concurrent takes max=… alone, by name")
        value = call.keywords[0].value
        number = value.value if isinstance(value, ast.Constant) else None
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise StaticRuleError(
                f"@concurrent(max={ast.unparse(value)}): max must be a literal whole number "
                "of at least 1"
            )
        found = number
    if found > 1 and not isinstance(predict, ast.AsyncFunctionDef):
        raise StaticRuleError("@concurrent(max=…) of more than 1 needs async def predict()")
    return found


def _kind(name: str, annotation: ast.expr | None) -> tuple[str, bool, bool]:
    """(kind, optional, repeated) of an annotation such as `Optional[List[str]]`."""
    if annotation is None:
        raise StaticRuleError(f"input {name!r} has no type annotation")
    optional = repeated = False
    node = annotation
    if isinstance(node, ast.Subscript) and _name(node.value) == "Optional":
        optional, node = True, node.slice
    if isinstance(node, ast.Subscript) and _name(node.value) in ("List", "list"):
        repeated, node = True, node.slice
    if _name(node) not in JSON_TYPES:
        raise StaticRuleError(
            f"input {name!r}: {ast.unparse(annotation)} is not a type that Cog reads; "
            f"allowed: {', '.join(JSON_TYPES)}, a list of one, Optional of either"
        )
    return _name(node), optional, repeated


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _literal_constants(tree: ast.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        try:
            found[_name(target)] = ast.literal_eval(value)
        except ValueError:
            continue
    return found


def _methods(tree: ast.Module, class_name: str) -> dict[str, Method]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return {item.name: item for item in node.body if isinstance(item, Method)}
    raise StaticRuleError(f"there is no class {class_name} at the top level of the file")


def _only_from_cog(tree: ast.Module, *names: str) -> None:
    """Cog knows its own types by name: an alias, or another module's `Path`, is not seen."""
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom):
            continue
        for alias in node.names:
            bound = alias.asname or alias.name
            if bound in names and (node.module != "cog" or alias.name != bound):
                raise StaticRuleError(f"{bound} must be imported from cog under its own name")
            if node.module == "cog" and alias.name in names and bound != alias.name:
                raise StaticRuleError(f"{alias.name} must keep its own name, not {bound}")
