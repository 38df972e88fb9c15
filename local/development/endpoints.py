"""An endpoint that does not exist yet: its names in each file, and what its neighbours in the route matrix suggest for it.

The neighbours are the existing calls of the same resource that take an access token.
"""

import builtins
import json
import keyword
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from local.stack.template import Function, Template

METHODS = ("GET", "POST", "PUT", "DELETE")
"""The methods that the API's cross-origin rules permit."""
BASE_PATH = "/api/v1"
RESERVED = {"app", "handler", "describe", "user"}
"""Names that every handler file already uses."""
ADMINS_ALONE = (403, 403, 403, 200)
EVERYBODY = (200, 200, 200, 200)
OWNER_AND_ADMINS = (403, 403, 200, 200)

_WORD = "[a-z]+(?:_[a-z]+)*"
_NAME = re.compile(rf"([a-z]+)/({_WORD})")
_ROUTE = re.compile(rf"(?:/(?:[a-z0-9]+(?:[-_.][a-z0-9]+)*|\{{{_WORD}\}}))+")
_ROW = re.compile(r"^(\w+) +(/\S*) +\| access +\|[\d ]+\|((?: \d{3}){4})$", re.MULTILINE)


class RefusedError(Exception):
    """The endpoint cannot be made. The message is one sentence for the console."""


@dataclass(frozen=True)
class Endpoint:
    """A new endpoint: its names, and the status for each kind of caller (a stranger, a visitor, the owner, an admin)."""

    resource: str
    verb: str
    method: str
    route: str
    statuses: tuple[int, ...] = EVERYBODY

    @property
    def module(self) -> str:
        """The module of the handler: chats.pin."""
        return f"{self.resource}.{self.verb}"

    @property
    def operation(self) -> str:
        """The operation's id in the OpenAPI document: chats_pin."""
        return f"{self.resource}_{self.verb}"

    @property
    def logical_id(self) -> str:
        """The function's name in template.yaml: ChatsPinFunction."""
        return "".join(part.capitalize() for part in self.operation.split("_")) + "Function"

    @property
    def function(self) -> str:
        """The name of the handler's function. It does not hide a function of Python."""
        return f"{self.verb}_" if hasattr(builtins, self.verb) else self.verb

    @property
    def path(self) -> str:
        """The whole path: /api/v1/chats/{id}/pin."""
        return BASE_PATH + self.route

    @property
    def parameters(self) -> dict[str, str]:
        """The path's parameters by name, each with the segment before it: {"id": "chats"}."""
        parts = self.route.split("/")
        return {part.strip("{}"): parts[at - 1] for at, part in enumerate(parts) if part.startswith("{")}

    @property
    def caller(self) -> str:
        """The type of the handler's argument that says who may call."""
        if self.statuses == ADMINS_ALONE:
            return "Admin"
        stranger, visitor, *_ = self.statuses
        return "Member" if (stranger, visitor) == (200, 403) else "Visitor"

    @property
    def errors(self) -> tuple[int, ...]:
        """The statuses of the errors that it probably answers."""
        return tuple(sorted({*self.statuses, *([404] if self.parameters else [])} - {200}))

    @property
    def files(self) -> dict[str, str]:
        """The paths of its new files, by their purpose."""
        return {
            "handler": f"functions/{self.resource}/{self.verb}.py",
            "event": f"events/{self.resource}/{self.verb}.json",
            "tests": f"tests/integration/test_{self.operation}.py",
        }


def parse(name: str, method: str, route: str, root: Path) -> Endpoint:
    """Return the endpoint that is asked for.

    Raises
    ------
    RefusedError
        An argument is malformed, the resource does not exist, or the route or one of the files exists already.
    """
    named = _NAME.fullmatch(name)
    if not named:
        raise RefusedError(f'NAME is <resource>/<verb> in lower-case letters, such as chats/pin: not "{name}".')
    resource, verb = named.groups()
    if method not in METHODS:
        raise RefusedError(f'METHOD is {", ".join(METHODS[:-1])} or {METHODS[-1]}: not "{method}".')
    if not _ROUTE.fullmatch(route) or route.startswith(BASE_PATH):
        raise RefusedError(f'ROUTE is a path without {BASE_PATH}, such as /chats/{{id}}/pin: not "{route}".')
    functions = [f for f in Template(root / "template.yaml").functions.values() if routes_of(f)]
    resources = sorted({function.module.partition(".")[0] for function in functions})
    if resource not in resources:
        raise RefusedError(f'NAME begins with an existing resource ({", ".join(resources)}): not with "{resource}".')
    if route.split("/")[1] != resource:
        raise RefusedError(f'ROUTE begins with /{resource}, as NAME does: not "{route}".')
    parameters = re.findall(r"\{(\w+)\}", route)
    for word in (verb, *parameters):
        if keyword.iskeyword(word) or word in RESERVED:
            raise RefusedError(f'"{word}" has another meaning in a handler file: choose another word.')
    if len(parameters) > len(set(parameters)):
        raise RefusedError(f'A parameter stands twice in ROUTE: "{route}".')
    endpoint = Endpoint(resource, verb, method, route)
    _refuse_existing(endpoint, functions, root)
    return Endpoint(resource, verb, method, route, suggest_statuses(endpoint, root))


def routes_of(function: Function) -> list[tuple[str, str]]:
    """Return the method and path of each route of a function."""
    return [(e.properties["Method"].upper(), e.properties["Path"]) for e in function.events if e.type == "HttpApi"]


def suggest_statuses(endpoint: Endpoint, root: Path) -> tuple[int, ...]:
    """Return the statuses of most neighbours that have path parameters as the endpoint has, or none as it has none.

    Neighbours of the same method come first.
    """
    rows = [
        (method, tuple(map(int, cells.split())))
        for method, path, cells in _ROW.findall((root / "tests/route_matrix.py").read_text(encoding="utf-8"))
        if path.split("/")[1] == endpoint.resource and ("{" in path) == bool(endpoint.parameters)
    ]
    nearest = [statuses for method, statuses in rows if method == endpoint.method] or [statuses for _, statuses in rows]
    if nearest:
        return Counter(nearest).most_common(1)[0][0]
    return OWNER_AND_ADMINS if endpoint.parameters else EVERYBODY


def find_example_ids(endpoint: Endpoint, root: Path) -> dict[str, str]:
    """Return a value for each of the path's parameters, from the events of the neighbours."""
    known: dict[tuple[str, str], str] = {}
    for path in sorted((root / "events").glob("*/*.json"), key=lambda path: path.parent.name != endpoint.resource):
        event = json.loads(path.read_text(encoding="utf-8"))
        segments = event.get("routeKey", "").split("/")
        for name, value in event.get("pathParameters", {}).items():
            if f"{{{name}}}" in segments:  # a route that takes all paths below it has {path+}
                known.setdefault((segments[segments.index(f"{{{name}}}") - 1], name), value)
    return {name: known.get((before, name), f"TODO-{name}") for name, before in endpoint.parameters.items()}


def _refuse_existing(endpoint: Endpoint, functions: list[Function], root: Path) -> None:
    for function in functions:
        for method, path in routes_of(function):
            if (method, _shape(path)) == (endpoint.method, _shape(endpoint.path)):
                raise RefusedError(
                    f"{method} {endpoint.route} exists already: {function.name} in template.yaml has it."
                )
    for path in endpoint.files.values():
        if (root / path).exists():
            raise RefusedError(f"{path} exists already: choose another NAME.")


def _shape(path: str) -> str:
    """Return a path without its parameters' names, which do not tell two routes apart."""
    return re.sub(r"\{\w+\}", "{}", path)
