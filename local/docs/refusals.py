"""Finds the refusals that a handler can make: the errors that it and the functions it calls can raise, read from the source.

It follows names from a handler's module through functions/aideer: functions that are called or passed on, classes with all their
methods, and constants. A rate limit is named by its kind, so its code comes from the table of aideer/security/limits.py. So the
module lists all reachable codes, perhaps including a code that no request can cause.
"""

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from local.stack.processes import ROOT

FUNCTIONS = ROOT / "functions"
ERRORS = "aideer.core.errors"
LIMITS = "aideer.security.limits"
LIMITERS = (LIMITS, "aideer.security.rate_limits")
"""Modules whose functions take the kind of a rate limit, and raise or return its refusal."""
UNFOLLOWED = ("aideer.web.http", "aideer.web.asgi", "aideer.web.validation")
"""Modules that every handler shares. Their refusals are in `EVERYWHERE`."""
OTHER_ARGUMENTS = {"headers", "retry_after", "detail", "code"}
"""Arguments of an error's constructor that its answer does not contain."""

Node = tuple[str, str]
"""(module name, name that the module defines)."""


@dataclass(frozen=True)
class Refusal:
    """An error that may be answered, with the names of its fields besides `detail` and `code`."""

    status: int
    code: str
    extra: frozenset[str] = frozenset()


EVERYWHERE = (Refusal(415, "unsupported_media_type"), Refusal(422, "validation_error"), Refusal(503, "busy"))


@dataclass
class _Module:
    name: str
    definitions: dict[str, ast.AST] = field(default_factory=dict)
    imports: dict[str, Node] = field(default_factory=dict)
    """Imports by local name: (module, name there). The name is empty if the module itself is imported."""


def of_handler(module: str, *names: str) -> frozenset[Refusal]:
    """Return the refusals of a handler's module: tasks.create for functions/tasks/create.py.

    With `names`, return only those of these functions.
    """
    modules = _modules()
    seen: set[Node] = set()
    found = set(EVERYWHERE)
    open_nodes = [(module, name) for name in names or modules[module].definitions]
    while open_nodes:
        node = open_nodes.pop()
        if node in seen or node[0] in UNFOLLOWED or node[0] not in modules:
            continue
        seen.add(node)
        definition = modules[node[0]].definitions.get(node[1])
        if definition is None or node[0] == ERRORS:
            continue
        refusals, references = _read(node)
        found |= refusals
        open_nodes += references
    return frozenset(found)


@functools.cache
def extra_fields() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """Return the fields besides `detail` and `code`, by code: those of all its errors, and those of any."""
    found: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    for module in _modules().values():
        for refusal in (made for definition in module.definitions.values() for made in _made(module, definition)):
            always, ever = found.get(refusal.code, (refusal.extra, frozenset()))
            found[refusal.code] = always & refusal.extra, ever | refusal.extra
    return {code: fields for code, fields in found.items() if fields[1]}


@functools.cache
def _read(node: Node) -> tuple[frozenset[Refusal], frozenset[Node]]:
    """Return the refusals that a definition makes, and the names that it refers to."""
    module = _modules()[node[0]]
    definition = module.definitions[node[1]]
    return frozenset(_made(module, definition)), frozenset(_references(module, definition))


@functools.cache
def _modules() -> dict[str, _Module]:
    paths = [*FUNCTIONS.glob("*/*.py"), *FUNCTIONS.glob("aideer/*/**/*.py")]
    found = {}
    for path in paths:
        name = ".".join(path.relative_to(FUNCTIONS).with_suffix("").parts)
        found[name] = _parse(name, ast.parse(path.read_text(encoding="utf-8")))
    return found


def _parse(name: str, tree: ast.Module) -> _Module:
    module = _Module(name)
    for statement in tree.body:
        match statement:
            case ast.FunctionDef(name=defined) | ast.AsyncFunctionDef(name=defined) | ast.ClassDef(name=defined):
                module.definitions[defined] = statement
            case ast.Assign(targets=[ast.Name(id=defined)]) | ast.AnnAssign(target=ast.Name(id=defined)):
                module.definitions[defined] = statement
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(source), names=names) if source.startswith("aideer."):
                for alias in names:
                    whole = f"{source}.{alias.name}"
                    module.imports[alias.asname or alias.name] = (
                        (whole, "") if _is_module(whole) else (source, alias.name)
                    )
    return module


def _is_module(name: str) -> bool:
    return FUNCTIONS.joinpath(*name.split(".")).with_suffix(".py").exists()


def _references(module: _Module, definition: ast.AST) -> Iterator[Node]:
    for node in ast.walk(definition):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name in module.imports:
                source, inner = module.imports[name]
                yield (source, inner) if inner else (source, attribute)
            case ast.Name(id=name) if name in module.definitions:
                yield module.name, name
            case ast.Name(id=name) if name in module.imports:
                yield module.imports[name]


def _made(module: _Module, definition: ast.AST) -> Iterator[Refusal]:
    """Yield the errors that are made here, by a call of their class or by naming a class that needs no arguments."""
    errors = _errors()
    called = set()
    for node in ast.walk(definition):
        match node:
            case ast.Call(func=ast.Name(id=name) as function, args=arguments, keywords=keywords):
                error = errors.get(module.imports.get(name, ("", ""))[1]) if _is_error(module, name) else None
                if error is None:
                    continue
                called.add(function)
                code = arguments[0] if arguments else None
                literal = code.value if isinstance(code, ast.Constant) else error.code if code is None else None
                if isinstance(literal, str):
                    extra = {keyword.arg for keyword in keywords if keyword.arg} - OTHER_ARGUMENTS
                    yield Refusal(error.status, literal, frozenset(extra))
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name)), args=[ast.Constant(value=str(kind)), *_]) if (
                module.imports.get(name, ("", ""))[0] in LIMITERS and kind in limits()
            ):
                yield Refusal(429, limits()[kind][0])
            case ast.Raise(exc=ast.Name(id=name)) | ast.Return(value=ast.Name(id=name)) if _is_error(module, name):
                error = errors.get(module.imports[name][1])
                if error and error.code:
                    yield Refusal(error.status, error.code)


@functools.cache
def limits() -> dict[str, tuple[str, str]]:
    """Return the code and the text of the rate limits' refusals, by kind."""
    named, usual = _table("REFUSALS"), _table("DEFAULT_REFUSAL")
    return {kind: named.get(kind, usual) for kind in default_limits()}


def default_limits() -> dict[str, tuple[int, int]]:
    """Return the times and the seconds of the rate limits, by kind."""
    found: dict[str, tuple[int, int]] = _table("DEFAULTS")
    return found


def _table(name: str) -> Any:
    """Return a table of aideer/security/limits.py. A call in it stands for the tuple of its arguments."""
    match _modules()[LIMITS].definitions[name]:
        case ast.AnnAssign(value=ast.expr() as value) | ast.Assign(value=value):
            return ast.literal_eval(_Tuples().visit(value))
    raise LookupError(name)


class _Tuples(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.Tuple:
        return ast.Tuple(node.args, ast.Load())


def _is_error(module: _Module, name: str) -> bool:
    return module.imports.get(name, ("", ""))[0] == ERRORS


@dataclass(frozen=True)
class _Error:
    status: int
    code: str | None
    """The code if the constructor receives none."""


@functools.cache
def _errors() -> dict[str, _Error]:
    """Return the classes of aideer/core/errors.py, with their statuses and default codes."""
    found: dict[str, _Error] = {}
    for name, definition in _modules()[ERRORS].definitions.items():
        if not isinstance(definition, ast.ClassDef):
            continue
        base = found.get(definition.bases[0].id) if isinstance(definition.bases[0], ast.Name) else None
        status, code = (base.status, base.code) if base else (500, None)
        for statement in definition.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="status")], value=ast.Constant(value=int(own))):
                    status = own
                case ast.FunctionDef(name="__init__", args=ast.arguments(defaults=defaults)):
                    code = _first(defaults)
        found[name] = _Error(status, code)
    return found


def _first(defaults: list[Any]) -> str | None:
    match defaults:
        case [ast.Constant(value=str(code)), *_]:
            return code
    return None
