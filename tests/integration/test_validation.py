"""What every call takes and refuses: media types, types of fields, query parameters; and no refusal repeats what was sent."""

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core._pydantic_core import list_all_errors

from aideer.schemas.strings import Body
from aideer.web import bodies
from local.docs import streams
from local.docs.openapi import DOCUMENT
from tests.support import Answer, Api, Person, make_person

MakePerson = Callable[..., Person]
WHOLE: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
OPERATIONS: dict[str, tuple[str, str, dict[str, Any]]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, operations in WHOLE["paths"].items()
    for method, operation in operations.items()
    if operation["operationId"] not in streams.SOURCES  # no handlers of the resolver's
}
JSON_BODIES = {
    name: operation["requestBody"]["content"]["application/json"]
    for name, (_, _, operation) in OPERATIONS.items()
    if "application/json" in operation.get("requestBody", {}).get("content", {})
}
VALUES = [None, True, False, 0, 1, 1.5, "", "0", "1", "1.5", "true", "off", "null", "[]", [], [1], ["x"], {}, {"x": 1}]
"""Among them everything that some JSON library converts into something else."""
MARKER = "zqx7marker"


def called(api: Api, name: str, user: Person | None, *, query: str = "", id: str = "nothing", **sent: Any) -> Answer:
    """The answer of an operation, with this text in the place of its path's parameter."""
    method, path, operation = OPERATIONS[name]
    names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "path"]
    address = path.format(**dict.fromkeys(names, id)) + (f"?{query}" if query else "")
    module = name.removesuffix("_at_root").replace("_", ".", 1)
    return api(module, method, address, user=user, parameters=dict.fromkeys(names, id), **sent)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema, without a reference at its top."""
    name = schema.get("$ref", "").rpartition("/")[2]
    return resolved(WHOLE["components"]["schemas"][name]) if name else schema


def alternatives(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that a value may be of."""
    schema = resolved(schema)
    for part in schema.get("anyOf") or schema.get("oneOf") or [schema]:
        yield from alternatives(part) if part is not schema else [schema]


def fields(schema: dict[str, Any], path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Each field of a body, as (path, schema); of lists the first item's."""
    for part in alternatives(schema):
        for name, field in part.get("properties", {}).items():
            yield (*path, name), field
            yield from fields(field, (*path, name))
        if "items" in part:
            yield (*path, 0), part["items"]
            yield from fields(part["items"], (*path, 0))


def type_fits(schema: dict[str, Any], value: Any) -> bool:
    """Whether a JSON value is of one of the types that a schema names; a number without a fraction is an integer only as one."""
    types = [part.get("type") for part in alternatives(schema)]
    if None in types:
        return any(
            "const" in part or "enum" in part or not set(part) - {"description", "title"}
            for part in alternatives(schema)
        )
    is_type = jsonschema.Draft202012Validator.TYPE_CHECKER.is_type
    return any(is_type(value, name) for name in types)


def placed(body: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of a body with this value at this place; what is missing on the way is made."""
    body = copy.deepcopy(body)
    at = body
    for part, following in itertools.pairwise(path):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(part, int):
            at[:] = at or [empty]
        elif not at.get(part):
            at[part] = empty
        at = at[part]
    if isinstance(path[-1], int):
        at[:] = [value]
    else:
        at[path[-1]] = value
    return body


# Types


@pytest.mark.parametrize("name", [name for name, content in JSON_BODIES.items() if list(fields(content["schema"]))])
def test_no_type_is_converted_into_another(api: Api, person: MakePerson, name: str) -> None:
    admin, content = person(permission=2), JSON_BODIES[name]
    tried = 0
    for path, schema in fields(content["schema"]):
        for value in VALUES:
            if type_fits(schema, value):
                continue
            body = placed(content.get("example", {}), path, value)
            answer = called(api, name, admin, json=body)
            assert (answer.status, answer.json["code"]) == (422, "validation_error"), (path, value, answer.body)
            places = [error["loc"] for error in answer.json["detail"]]
            field = (
                ["body", *path] if isinstance(path[-1], str) else ["body", *path[:-1]]
            )  # a list may be one of two types
            assert any(place[: len(field)] == field[: len(place)] for place in places), (path, value, places)
            tried += 1
    assert tried >= 10


def test_every_request_model_is_strict_and_closed(api: Api) -> None:
    """A model that a body is made of is a Body. Free names have values of any kind, or an error of one would repeat its name."""
    for name, content in JSON_BODIES.items():
        for schema in [content["schema"], *(schema for _, schema in fields(content["schema"]))]:
            for part in alternatives(schema):
                if part.get("type") == "object" and part.get("additionalProperties") is not True:
                    assert part.get("additionalProperties") is False, (name, part)
                    assert part.get("properties"), (name, part)
    assert Body.model_config["strict"]


# Media types


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "Application/JSON",
        "APPLICATION/JSON; CHARSET=UTF-8",
        "application/json;charset=utf-8",
        "application/json ; profile=x",
        "",
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_is_taken_in_every_spelling(api: Api, person: MakePerson, content_type: str, mark: str) -> None:
    raw = (mark + '{"title":"Deer","parameters":{"model":"qwen-plus"}}').encode()
    headers = {"content-type": content_type} if content_type else {}
    answer = called(api, "presets_create", person(), raw=raw, headers=headers)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    "content_type",
    ["Application/X-WWW-Form-URLEncoded", "application/x-www-form-urlencoded; charset=UTF-8", ""],
)
def test_a_form_is_taken_in_every_spelling(api: Api, person: MakePerson, content_type: str) -> None:
    me = person()
    raw = f"grant_type=password&username={me.username}&password={me.password}".encode()
    headers = {"content-type": content_type} if content_type else {}
    assert called(api, "session_create", None, raw=raw, headers=headers).status == 200


@pytest.mark.parametrize("name", [name for name, (_, _, o) in OPERATIONS.items() if "requestBody" in o])
@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b",
        "text/plain",
        "application/jsonp",
        "application/json-patch+json",
        "image/png",
        f"{MARKER}/{MARKER}",
        ";",
        "é/é",
    ],
)
def test_a_body_of_another_type_is_415_and_is_not_repeated(
    api: Api, person: MakePerson, name: str, content_type: str
) -> None:
    declared = set(OPERATIONS[name][2]["requestBody"]["content"])
    if content_type.partition(";")[0] in {*declared, ""}:
        return
    raw = f"username={MARKER}&password={MARKER}".encode()
    answer = called(api, name, person(permission=2), raw=raw, headers={"content-type": content_type})
    assert answer.status == 415, answer.body
    assert MARKER not in answer.body
    assert all(media_type in answer.body for media_type in declared)


# Query parameters


@pytest.mark.parametrize(
    "name", sorted(OPERATIONS.keys() - {"session_create", "session_wechat_callback", "session_wechat_refresh"})
)
def test_an_unknown_query_parameter_is_refused_like_an_unknown_field(api: Api, person: MakePerson, name: str) -> None:
    known = [p["name"] for p in OPERATIONS[name][2].get("parameters", []) if p["in"] == "query"]
    answer = called(api, name, person(permission=2), query=f"{MARKER}=1")
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    [error] = answer.json["detail"]
    assert (error["loc"], error["type"]) == (["query"], "extra_forbidden")
    assert all(parameter in error["msg"] for parameter in known)
    assert MARKER not in answer.body


def test_an_unknown_query_parameter_is_refused_in_the_way_of_oauth2_where_that_is_spoken(api: Api) -> None:
    answer = called(api, "session_create", None, query=f"{MARKER}=1")
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert MARKER not in answer.body


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (name, parameter["name"])
        for name, (_, _, operation) in OPERATIONS.items()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query"
    ],
)
@pytest.mark.parametrize("values", [("1", "1"), ("", "1"), ("1", "")])
def test_a_query_parameter_comes_only_once(
    api: Api, person: MakePerson, name: str, parameter: str, values: tuple[str, str]
) -> None:
    user = None if name.startswith("session_") else person(permission=2)
    answer = called(api, name, user, query="&".join(f"{parameter}={value}" for value in values))
    assert (answer.status, answer.json["code"]) == (422, "validation_error")
    error = {"loc": ["query", parameter], "msg": "This parameter may come only once.", "type": "repeated"}
    assert answer.json["detail"] == [error]


def test_another_server_may_send_parameters_that_are_not_known(api: Api) -> None:
    """RFC 6749, section 4.1.2: unrecognised response parameters are ignored."""
    answer = called(api, "session_wechat_callback", None, query="state=x&code=y&scope=z")
    assert answer.status != 422


@pytest.mark.parametrize("name", ["users_list", "session_wechat_refresh"])
def test_a_stranger_is_not_told_which_parameters_there_are(api: Api, name: str) -> None:
    assert called(api, name, None, query="x=1").status == 401


# What was sent is not repeated

MARKED: list[Any] = [MARKER, [MARKER], {MARKER: MARKER}, [{MARKER: [MARKER]}], MARKER * 1000]
_callers: list[Person] = []


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=25)
@given(data=st.data())
def test_no_refusal_repeats_what_was_sent(api: Api, name: str, data: st.DataObject) -> None:
    if not _callers:
        _callers.append(make_person(2))
    _, _, operation = OPERATIONS[name]
    sent: dict[str, Any] = {"id": data.draw(st.sampled_from(["nothing", MARKER]))}
    queries = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
    headers = [p["name"] for p in operation.get("parameters", []) if p["in"] == "header"]
    sent["query"] = data.draw(st.sampled_from(["", *(f"{query}={MARKER}" for query in queries), f"{MARKER}={MARKER}"]))
    kinds = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", MARKER]
    sent["headers"] = {header: MARKER for header in headers if data.draw(st.booleans())}
    if name in JSON_BODIES and data.draw(st.integers(0, 3)):
        content = JSON_BODIES[name]
        path = data.draw(st.sampled_from([*(path for path, _ in fields(content["schema"])), (MARKER,)]))
        sent["json"] = placed(content.get("example", {}), path, data.draw(st.sampled_from(MARKED)))
        if data.draw(st.booleans()) and len(path) > 1 and isinstance(path[-1], str):
            sent["json"] = placed(sent["json"], (*path[:-1], MARKER), 1)
    elif "requestBody" in operation:
        sent["headers"]["content-type"] = data.draw(st.sampled_from(kinds))
        disposition = (
            f'--b\r\nContent-Disposition: form-data; name="{MARKER}"; filename="{MARKER}"\r\n\r\n{MARKER}\r\n--b--'
        )
        raw = [MARKER, f"{MARKER}={MARKER}", f'"{MARKER}"', f'{{"{MARKER}":', f'["{MARKER}"]', disposition]
        sent["raw"] = data.draw(st.sampled_from(raw)).encode()
    answer = called(api, name, _callers[0], **sent)
    assert answer.status < 500, answer.body
    if answer.status >= 400:
        described = operation["responses"].get(str(answer.status), {"description": "`too_large`"})["description"]
        assert f"`{answer.json['code']}`" in described, answer.body
        assert MARKER not in answer.body + str(answer.headers)


QUOTING = ("error", "tag", "input", "encoding", "class")


@pytest.mark.parametrize("kind", list_all_errors(), ids=lambda kind: kind["type"])
def test_no_message_of_pydantic_s_repeats_the_input(kind: Any) -> None:
    """A context that a new Pydantic brings is not shown until it is known to come from the schema."""

    context = dict.fromkeys(kind["example_context"] or (), MARKER)
    error = {"loc": ("body", "x"), "msg": f"so {' '.join(context.values())}", "type": kind["type"], "ctx": context}
    [shown] = bodies.public_errors(None, [error])
    if set(context) - bodies.SCHEMA_CONTEXT:
        assert MARKER not in shown["msg"]
    assert not any(name.startswith(QUOTING) for name in bodies.SCHEMA_CONTEXT - {"class_name"})
