"""Make docs/api.md: `make docs`, after local.docs.openapi. With --check, only report whether that file is up to date.

Shapes, limits and answers come from the OpenAPI document. The promise of each call and its permitted callers come from its
handler file. The error codes come from the statements that raise them. api_page.md beside this file is written by hand: it
describes what all calls share.
"""

import ast
import itertools
import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from local.docs import refusals
from local.stack.processes import ROOT

FUNCTIONS = ROOT / "functions"
OPENAPI = FUNCTIONS / "docs" / "openapi.json"
HEAD = Path(__file__).with_suffix(".md")
PAGE = ROOT / "docs" / "api.md"
BASE_PATH = "/api/v1"
RESOURCES = (
    "config",
    "users",
    "session",
    "avatars",
    "likes",
    "credits",
    "presets",
    "chats",
    "uploads",
    "tasks",
    "ui",
    "codes",
    "prices",
    "admin",
)
"""The order of the resources. Others follow."""
WHO = {
    "Visitor": "who is signed in",
    "Reader": "who is signed in",
    "Member": "users",
    "Unread": "users",
    "Admin": "admins",
    "RefreshClaims": "who has a refresh token",
    "Authorization": "who has a refresh token or a ticket",
}
"""Permitted callers, by the type of a handler's argument."""
HIDDEN = ("Error", "InvalidRequest")
STREAMS = {
    ("post", "/api/v1/tasks/stream"): "users",
    ("get", "/api/v1/tasks/{id}/stream"): "the owner, by token or ticket",
    ("get", "/api/v1/tasks/{id}/poll"): "the owner, by token or ticket",
    ("post", "/api/v1/ui/chat"): "users",
    ("get", "/api/v1/ui/chat/{id}/stream"): "the owner of the chat",
    ("post", "/api/v1/ui/chat/{id}/stop"): "the owner of the chat",
}
"""The permitted callers of the calls that have no handler with a resolver."""
_EACH = {60: "a minute", 900: "in 15 minutes", 3600: "an hour", 86400: "a day"}
SLOTS = ("<!-- codes -->", "<!-- failures -->", "<!-- limits -->")
"""Placeholders in the head for the tables of errors."""


@dataclass(frozen=True)
class Handler:
    """The promise and the permitted callers of a call, read from its handler's source."""

    promise: str
    who: str


def handlers() -> dict[tuple[str, str], Handler]:
    """Return the handlers by (method, path)."""
    found = {}
    for path in sorted(FUNCTIONS.glob("*/*.py")):
        module = _parse(path)
        for function in module.body:
            if not isinstance(function, ast.FunctionDef):
                continue
            for method, route in _routes(function):
                found[method, route] = Handler(_promise(module, function), _permitted_callers(function))
    return found


def _routes(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Yield the method and path of each route: ("get", "/api/v1/chats/{id}") for `@app.get("/api/v1/chats/<id>", …)`."""
    for decorator in function.decorator_list:
        match decorator:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="app"), attr=method), args=[ast.Constant(value=str(route)), *_]
            ):
                yield method, route.replace("<", "{").replace(">", "}")


def _promise(module: ast.Module, function: ast.FunctionDef) -> str:
    """Return the function's docstring. Without one, return the module's docstring after the call that begins it."""
    own = ast.get_docstring(function)
    text = " ".join((own or (ast.get_docstring(module) or "").partition(": ")[2]).split())
    return text[:1].upper() + text[1:]


def _permitted_callers(function: ast.FunctionDef) -> str:
    names = [argument.annotation.id for argument in function.args.args if isinstance(argument.annotation, ast.Name)]
    return next((WHO[name] for name in names if name in WHO), "anyone")


def codes() -> str:
    """Return a table of the error codes, collected from the places that raise them."""
    statuses = {
        item.name: int(ast.literal_eval(statement.value))
        for item in _parse(FUNCTIONS / "aideer" / "core" / "errors.py").body
        if isinstance(item, ast.ClassDef)
        for statement in item.body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "status"
    }
    found: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name, code, detail in itertools.chain(*map(_list_errors, sorted(FUNCTIONS.glob("**/*.py")))):
        if name in statuses and detail not in found[statuses[name], code]:
            found[statuses[name], code].append(detail)
    for code, detail in refusals.limits().values():
        detail = re.sub(r"\{\w+\}", "…", detail)
        if detail not in found[HTTPStatus.TOO_MANY_REQUESTS, code]:
            found[HTTPStatus.TOO_MANY_REQUESTS, code].append(detail)
    rows = [f"| {status:d} | `{code}` | {' '.join(details)} |" for (status, code), details in sorted(found.items())]
    return "\n".join(["| status | code | detail |", "| --- | --- | --- |", *rows])


def limits() -> str:
    """Return a table of the rate limits of users, with their default numbers."""
    rows = []
    for kind, (code, text) in refusals.limits().items():
        times, seconds = refusals.default_limits()[kind]
        if "{" in text:
            said = text.format(times=f"{times:,}", each=_EACH.get(seconds, f"in {seconds} seconds"))
            rows.append(f"| `{code}` | {said} |")
    return "\n".join(["| code | limit |", "| --- | --- |", *rows])


def failures() -> str:
    """Return a table of the codes with which tasks fail."""
    for statement in _parse(FUNCTIONS / "aideer" / "tasks" / "control.py").body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ERRORS":
            rows = [f"| `{code}` | {message} |" for code, message in ast.literal_eval(statement.value).items()]
            return "\n".join(["| code | message |", "| --- | --- |", *rows])
    raise LookupError("tasks.ERRORS")


def _list_errors(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (class, code, detail) of each error that a file makes. Include the defaults of error classes."""
    for node in ast.walk(_parse(path)):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(code)), detail, *_]):
                yield name, code, _words(detail)
            case ast.ClassDef(name=name, body=[*_, ast.FunctionDef(name="__init__", args=arguments)]):
                match arguments.defaults:
                    case [ast.Constant(value=str(code)), detail]:
                        yield name, code, _words(detail)


def _words(detail: ast.expr) -> str:
    """Return a detail as text, with … for inserted values."""
    match detail:
        case ast.Call(func=ast.Name(id="Detail"), args=[ast.Constant(value=str(template))]):
            return re.sub(r"\{\w+\}", "…", template)
        case ast.Constant(value=str(text)):
            return text
    return ""


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


class Page:
    """Writes one OpenAPI document as Markdown."""

    def __init__(self, document: dict[str, Any], sources: dict[tuple[str, str], Handler]) -> None:
        self._paths: dict[str, dict[str, Any]] = document["paths"]
        self._schemas: dict[str, Any] = document["components"]["schemas"]
        self._sources = sources
        text = json.dumps(document)
        bodies = set(re.findall(r'"schema": \{"\$ref": "#/components/schemas/(\w+)"\}', text))
        self._inline = {name for name in bodies if text.count(f'/{name}"') == 1}
        """Schemas that only one body uses. The page describes them at that body."""

    def text(self) -> str:
        """Return the page without its head."""
        parts = []
        tags = {
            tag for operations in self._paths.values() for operation in operations.values() for tag in operation["tags"]
        }
        for resource in [*RESOURCES, *sorted(tags.difference(RESOURCES))]:
            parts.append(f"## {resource.capitalize()}\n")
            parts += [
                self._call(path, method, operation)
                for path, operations in self._paths.items()
                for method, operation in operations.items()
                if operation["tags"] == [resource] and path.startswith(BASE_PATH)
            ]
        parts.append("## Shapes\n")
        parts += [
            self._shape(name, schema)
            for name, schema in self._schemas.items()
            if name not in HIDDEN and name not in self._inline
        ]
        return "\n".join(parts)

    def _call(self, path: str, method: str, operation: dict[str, Any]) -> str:
        who = STREAMS.get((method, path))
        source = Handler(operation["description"], who) if who else self._sources[method, path]
        summary = f"{operation['summary']}."
        more = source.promise.removeprefix(summary).strip()
        lines = [
            f"### {method.upper()} {path.removeprefix(BASE_PATH)}\n",
            f"**{summary}** For {source.who}.{f' {more}' if more else ''}\n",
        ]
        lines += [*self._parameters(operation), *self._body(operation), *self._answers(operation), ""]
        return "\n".join(lines)

    def _parameters(self, operation: dict[str, Any]) -> Iterator[str]:
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                continue
            is_header = parameter["in"] == "header"
            name = (
                "-".join(word.capitalize() for word in parameter["name"].split("-")) if is_header else parameter["name"]
            )
            says = f": {parameter['description']}" if "description" in parameter else ""
            kind = self._type(parameter["schema"]).removesuffix(" or null")
            yield f"- {'header' if is_header else 'query'} `{name.replace('-Id', '-ID')}` ({kind}){says}"

    def _body(self, operation: dict[str, Any]) -> Iterator[str]:
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
            kind = "" if media_type == "application/json" else f" ({media_type})"
            yield from self._described(f"body{kind}", content["schema"])

    def _described(self, what: str, schema: dict[str, Any]) -> Iterator[str]:
        """Yield the description of a body: its fields, or a link to them."""
        name = schema.get("$ref", "").rpartition("/")[2]
        if name not in self._inline:
            yield f"- {what}: {self._type(schema)}"
            return
        about = " ".join(self._schemas[name].get("description", "").split())
        yield f"- {what}:{f' {about}' if about else ''}"
        yield from (f"  {line}" for line in self._fields(self._schemas[name]))

    def _answers(self, operation: dict[str, Any]) -> Iterator[str]:
        refused = []
        for status, answer in operation["responses"].items():
            if status >= "400":
                codes = re.findall(r"`\w+`", answer["description"])
                refused += [" ".join([status, *codes])] if status != "default" else []
                continue
            headers = f" (headers {', '.join(answer['headers'])})" if answer.get("headers") else ""
            if not answer.get("content"):
                yield f"- {status}{headers}: {answer['description']}"
            for media_type, content in answer.get("content", {}).items():
                if media_type == "application/json":
                    yield from self._described(f"{status}{headers}", content["schema"])
                else:
                    yield f"- {status}{headers}: {media_type}"
        if refused:
            yield f"- refused with {'; '.join(refused)}"

    def _shape(self, name: str, schema: dict[str, Any]) -> str:
        about = " ".join(schema.get("description", "").split())
        return "\n".join([f"### {name}\n", *([about, ""] if about else []), *self._fields(schema), ""])

    def _fields(self, schema: dict[str, Any]) -> Iterator[str]:
        required = schema.get("required", [])
        fields = schema.get("properties", {}).items()
        for says, group in itertools.groupby(fields, key=lambda item: item[1].get("description", "")):
            members = list(group)
            if says and len(members) > 1 and not any(set(field) - {"title", "description"} for _, field in members):
                yield f"- {', '.join(f'`{name}`' for name, _ in members)}: {says}"
                continue
            for name, field in members:
                optional = "" if name in required else "optional, "
                yield f"- `{name}` ({optional}{self._type(field)}){f': {says}' if says else ''}"

    def _type(self, schema: dict[str, Any]) -> str:
        """Return a type with its limits, in words."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        if "anyOf" in schema:
            words = " or ".join(self._type(part) for part in schema["anyOf"])
        elif "const" in schema:
            words = f"`{schema['const']}`"
        elif "enum" in schema:
            words = " or ".join(f"`{value}`" for value in schema["enum"])
        elif schema.get("type") == "array":
            words = f"array of {self._type(schema.get('items', {}))}{_range(schema, 'minItems', 'maxItems')}"
        elif schema.get("type") == "string":
            pattern = f" like `{schema['pattern']}`" if "pattern" in schema else ""
            words = f"string{_range(schema, 'minLength', 'maxLength', ' characters')}{pattern}"
        elif schema.get("type") in ("integer", "number"):
            words = f"{schema['type']}{_range(schema, 'minimum', 'maximum')}{_open_range(schema)}"
        else:
            words = schema.get("type", "anything")
        default = schema.get("default")
        if default in (None, "", []):
            return words
        return f"{words}; default `{default if isinstance(default, str) else json.dumps(default)}`"


def _range(schema: dict[str, Any], lowest: str, highest: str, unit: str = "") -> str:
    low, high = schema.get(lowest), schema.get(highest)
    if low is not None and high is not None:
        return f", {low:,.0f}–{high:,.0f}{unit}"
    if low is not None:
        return f", at least {low:,.0f}{unit}"
    return f", at most {high:,.0f}{unit}" if high is not None else ""


def _open_range(schema: dict[str, Any]) -> str:
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    return (f", above {above:g}" if above is not None else "") + (f", below {below:g}" if below is not None else "")


def document() -> str:
    """Return the page, made from the OpenAPI document and the handlers."""
    page = Page(json.loads(OPENAPI.read_text(encoding="utf-8")), handlers())
    head = HEAD.read_text(encoding="utf-8")
    for slot, table in zip(SLOTS, (codes(), failures(), limits()), strict=True):
        head = head.replace(slot, table)
    return f"{head}\n{page.text()}"


def main(arguments: list[str]) -> int:
    """Write the page, or compare it with --check."""
    made = document()
    if arguments != ["--check"]:
        PAGE.write_text(made, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != made:
        print(f"{PAGE.relative_to(Path.cwd())} is out of date: make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
