"""Adds to the OpenAPI document: descriptions, codes of refusals with their fields, and types for generators.

Its functions change the document in place, after all operations are in it.
"""

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any

from local.docs import api_page, refusals, streams

EXTRA_FIELDS: dict[str, dict[str, Any]] = {
    "credits_left": {"type": "integer", "description": "The user's credits besides those on hold."},
    "credits_needed": {"type": "integer", "description": "The least that the call takes."},
    "model": {"type": "string", "description": "The model that was asked for."},
    "task_id": {"type": "string", "description": "The task that is answering."},
    "stream_url": {"type": ["string", "null"], "description": "Its stream, as in the accepted task."},
    "resume_url": {"type": ["string", "null"], "description": "Its stream from position 0, for EventSource."},
}
"""Schemas of the extra fields of errors, by their names in aideer/core/errors.py."""
UNEXPECTED = {
    "description": "Any other answer is an error.",
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/Error"},
            "example": {"detail": "The service had an internal error.", "code": "internal"},
        }
    },
}
"""The default answer of operations that never answer 2xx. Tools expect every operation to name a successful or a default answer.
"""
NAMES = {"etag": "ETag", "www-authenticate": "WWW-Authenticate"}
"""Headers whose name does not capitalise each word."""
LICENCE = {"name": "MIT", "identifier": "MIT"}
OTHER_TYPES = {"chats_export": "text/markdown", "codes_create": "text/csv", "codes_list": "text/csv"}
"""Second media types of a 200, by operation. Client generators support only one. The parameter `format` selects the other."""

Schemas = dict[str, Any]


def add(document: dict[str, Any], oauth: Iterable[str]) -> None:
    """Add all details. `oauth` names the operations that refuse as RFC 6749, section 5.2, requires: mostly with 400."""
    document["info"]["license"] = LICENCE
    sources, schemas = api_page.handlers(), document["components"]["schemas"]
    _add_refusals(schemas)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            name = operation["operationId"].removesuffix("_at_root")
            operation.setdefault("security", [])
            if (source := sources.get((method, path))) and "description" not in operation:
                operation["description"] = f"For {source.who}. {source.promise}"
            _name_headers(operation)
            _name_codes(operation, name, merged=name in oauth)
            _leave_one_type(operation, name)
            if not any(status.startswith("2") for status in operation["responses"]):
                operation["responses"]["default"] = UNEXPECTED
    _part_inputs_from_outputs(document)


def _add_refusals(schemas: Schemas) -> None:
    """Add a schema for each code whose error has more fields."""
    for code, (always, ever) in refusals.extra_fields().items():
        schemas[_schema_name(code)] = {
            "title": _schema_name(code),
            "type": "object",
            "required": ["detail", "code", *sorted(always)],
            "properties": {
                "detail": {"type": "string", "description": "For people."},
                "code": {"type": "string", "const": code},
                **{name: _extra_field(name) for name in sorted(ever)},
            },
        }


def _extra_field(name: str) -> dict[str, Any]:
    try:
        return EXTRA_FIELDS[name]
    except KeyError:
        raise LookupError(f"{name!r} of an error has no schema: add one to EXTRA_FIELDS in {__file__}") from None


def _schema_name(code: str) -> str:
    return code.title().replace("_", "")


def _name_headers(operation: dict[str, Any]) -> None:
    """Write every header's name in the case of its specification."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "header":
            parameter["name"] = _header_name(parameter["name"])
    for answer in operation["responses"].values():
        if "headers" in answer:
            answer["headers"] = {_header_name(name): described for name, described in answer["headers"].items()}


def _header_name(name: str) -> str:
    return NAMES.get(name.lower(), "-".join(word.capitalize() for word in name.split("-")))


def _name_codes(operation: dict[str, Any], name: str, *, merged: bool) -> None:
    """Name at each status the codes of its refusals, with their additional fields."""
    possible = refusals.of_handler(*streams.SOURCES.get(name, (name.replace("_", ".", 1),)))
    for status, answer in operation["responses"].items():
        if status < "400":
            continue
        statuses = (400, 401, 403, 422) if merged and status == "400" else (int(status),)
        codes = sorted({refusal.code for refusal in possible if refusal.status in statuses})
        if not codes:
            continue
        answer["description"] = f"{answer['description'].rstrip('.')}: {', '.join(f'`{code}`' for code in codes)}."
        extended = [_schema_name(code) for code in codes if code in refusals.extra_fields()]
        if extended and not merged:
            content = answer["content"]["application/json"]
            usual = [] if len(codes) == len(extended) else content["schema"].get("anyOf", [content["schema"]])
            options = [*({"$ref": f"#/components/schemas/{schema}"} for schema in extended), *usual]
            content["schema"] = options[0] if len(options) == 1 else {"anyOf": options}


def _leave_one_type(operation: dict[str, Any], name: str) -> None:
    if name in OTHER_TYPES:
        done = operation["responses"]["200"]
        del done["content"][OTHER_TYPES[name]]
        done["description"] = f"Done. With another `format` it is {OTHER_TYPES[name]}."


def _part_inputs_from_outputs(document: dict[str, Any]) -> None:
    """Give requests their own schemas if answers use the same ones, and remove the defaults from both.

    Generators (openapi-typescript) treat a field with a default as always present. This is true in answers, so there the field
    becomes required. In a request it may be left out, and its description names the default.
    """
    schemas: Schemas = document["components"]["schemas"]
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    sent = _reach(schemas, [operation.get("requestBody", {}) for operation in operations])
    answered = _reach(schemas, [operation["responses"] for operation in operations])
    renamed = {name: f"{name}Input" for name in sent & answered}
    schemas |= {new: {**copy.deepcopy(schemas[name]), "title": new} for name, new in renamed.items()}
    for name in sent:
        _rename(schemas[renamed.get(name, name)], renamed)
        _describe_defaults(schemas[renamed.get(name, name)])
    for operation in operations:
        _rename(operation.get("requestBody", {}), renamed)
    for name in answered:
        given = [field for field, schema in schemas[name].get("properties", {}).items() if "default" in schema]
        for field in given:
            del schemas[name]["properties"][field]["default"]
        if given:
            schemas[name]["required"] = [*schemas[name].get("required", []), *given]


def _describe_defaults(schema: dict[str, Any]) -> None:
    for field in schema.get("properties", {}).values():
        if "default" in field:
            default = field.pop("default")
            said = default if isinstance(default, str) else json.dumps(default)
            field["description"] = f"{field.get('description', '')} Default: `{said}`.".strip()


def _reach(schemas: Schemas, parts: Iterable[Any]) -> set[str]:
    """Return the names of the schemas that these parts of the document refer to, directly or not."""
    found: set[str] = set()
    names = [name for part in parts for name in _references(part)]
    while names:
        if (name := names.pop()) not in found:
            found.add(name)
            names += _references(schemas[name])
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            elif key != "example":
                yield from _references(value)
    elif isinstance(part, list):
        for item in part:
            yield from _references(item)


def _rename(part: Any, renamed: dict[str, str]) -> None:
    if isinstance(part, dict):
        if (name := str(part.get("$ref", "")).rpartition("/")[2]) in renamed:
            part["$ref"] = f"#/components/schemas/{renamed[name]}"
        for key, value in part.items():
            if (
                isinstance(value, str) and key != "$ref" and value.startswith("#/components/schemas/")
            ):  # from a discriminator
                part[key] = f"#/components/schemas/{renamed.get(value.rpartition('/')[2], value.rpartition('/')[2])}"
            _rename(value, renamed)
    elif isinstance(part, list):
        for item in part:
            _rename(item, renamed)
