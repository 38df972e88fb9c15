"""One endpoint, four places that name it: its file, its function in the template, its event, its entry in the document."""

import importlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from aideer.web.http import app
from local.development.skeletons import find_todos
from local.stack.template import Template
from tests.route_matrix import SITE, STREAMED

ROOT = Path(__file__).parents[2]
RESOURCES: dict[str, dict[str, Any]] = {
    name: resource["Properties"]
    for name, resource in Template().document["Resources"].items()
    if resource["Type"] == "AWS::Serverless::Function"
}
ALL_ROUTES = {
    name: [(event["Properties"]["Method"].upper(), event["Properties"]["Path"]) for event in events]
    for name, properties in RESOURCES.items()
    if (events := [e for e in properties.get("Events", {}).values() if e["Type"] == "HttpApi"])
}
ROUTED = {name: [route for route in routes if route[0] != "HEAD"] for name, routes in ALL_ROUTES.items()}
"""Without HEAD, which http.py answers as GET without the body."""
STREAM = {"tasks.stream.handler"}
DOCUMENTED = [name for name, found in ROUTED.items() if not set(found) <= SITE]
"""Without the function that serves the web client's files, and no call of the API."""


def file_of(handler: str) -> str:
    return handler.removesuffix(".handler")


def source_of(module: str) -> Path:
    """The file of a handler's module."""
    return ROOT / "functions" / f"{module.replace('.', '/')}.py"


def event_of(name: str) -> Path:
    """The file of a function's event."""
    handler: str = RESOURCES[name]["Handler"]
    path = handler.removesuffix(".handler").removesuffix(".sh").replace(".", "/")
    return ROOT / "events" / f"{path}.json"


@cache
def routes() -> dict[str, set[tuple[str, str]]]:
    """Each handler module's own routes: the one resolver holds those of all that are imported."""
    for properties in RESOURCES.values():
        if properties["Handler"].endswith(".handler") and source_of(file_of(properties["Handler"])).exists():
            importlib.import_module(file_of(properties["Handler"]))
    found: dict[str, set[tuple[str, str]]] = {}
    for route in app._static_routes + app._dynamic_routes:
        for method in [route.method] if isinstance(route.method, str) else route.method:
            found.setdefault(route.func.__module__, set()).add((method, re.sub(r"<(\w+)>", r"{\1}", route.path)))
    return found


@cache
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "functions/docs/openapi.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", [name for name in DOCUMENTED if RESOURCES[name]["Handler"] not in STREAM])
def test_a_functions_routes_are_its_own_files_routes(name: str) -> None:
    module = file_of(RESOURCES[name]["Handler"])
    declared = routes().get(module, set())
    assert set(ROUTED[name]) == declared, (
        f"template.yaml routes {ROUTED[name]} to {name}; {source_of(module).relative_to(ROOT)} declares {declared or 'nothing'}"
    )


@pytest.mark.parametrize("name", ROUTED)
def test_what_is_public_and_changes_nothing_answers_head(name: str) -> None:
    """The others' GET would be a mistake: WeChat's are public, and use up a code or a state."""
    handler = RESOURCES[name]["Handler"]
    plain = ("health.get.handler", "prices.list.handler", "config.get.handler", "web.file.handler")
    public = handler in (*plain, "docs.page.handler", "docs.openapi.handler")
    heads = {path for method, path in ALL_ROUTES[name] if method == "HEAD"}
    wanted = {path for _, path in ROUTED[name]} if public else set()
    assert heads == wanted, f"{name} in template.yaml routes HEAD for {heads}, and should for {wanted}"


def test_no_file_has_a_route_that_the_template_does_not_know() -> None:
    routed = {file_of(RESOURCES[name]["Handler"]) for name in ROUTED}
    unrouted = set(routes()) - routed
    assert not unrouted, f"template.yaml has no function with an HttpApi event for the handlers of {sorted(unrouted)}"


@pytest.mark.parametrize("name", ROUTED)
def test_its_event_is_a_request_of_its_route(name: str) -> None:
    path = event_of(name)
    file = path.relative_to(ROOT)
    assert path.exists(), f"{file} is missing: an event of {ROUTED[name]}, such as the one of a neighbour"
    event = json.loads(path.read_text(encoding="utf-8"))
    method, _, route = event["routeKey"].partition(" ")
    assert (method, route) in ROUTED[name], f"routeKey of {file} is not in {ROUTED[name]}, the routes of {name}"
    assert event["requestContext"]["http"]["method"] == method, f"{file} has two methods"
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", re.sub(r"\{(\w+)\+\}", r"(?P<\1>.+)", route))
    match = re.fullmatch(pattern, event["rawPath"])
    assert match, f"rawPath of {file} is no path of its routeKey"
    assert match.groupdict() == event.get("pathParameters", {}), (
        f"pathParameters of {file} are not those of its rawPath"
    )


def test_every_function_has_an_event() -> None:
    missing = [str(path.relative_to(ROOT)) for name in RESOURCES if not (path := event_of(name)).exists()]
    assert not missing, f"events of functions of template.yaml are missing: {missing}"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_it_is_documented_with_a_summary_and_its_answers(name: str) -> None:
    documented = [
        operation
        for method, path in ROUTED[name]
        if (operation := document()["paths"].get(path, {}).get(method.lower()))
    ]
    assert documented, f"{ROUTED[name]} is not in functions/docs/openapi.json: make docs"
    for operation in documented:
        assert operation["summary"], f"describe() in the handler of {name} has no summary"
        assert {"200", "302"} & operation["responses"].keys()


def test_the_document_names_nothing_that_is_not_routed() -> None:
    known = {*STREAMED, *(route for function in ROUTED.values() for route in function)}
    for path, operations in document()["paths"].items():
        for method in operations:
            assert (method.upper(), path) in known, (
                f"{method.upper()} {path} is not in template.yaml any more: make docs"
            )


def test_nothing_of_an_endpoint_is_left_to_be_filled_in() -> None:
    """`make new-endpoint` writes a TODO where somebody must decide. Its text says what to write there."""
    if left := find_todos(ROOT):
        pytest.fail("\n".join(["fill in:", *left]))
