"""Says in plain English how a price table differs from its JSON schema: which field, what is wrong, and what is allowed."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

Schema = dict[str, Any]
LONGEST = 60
"""The characters of a wrong value that a message shows."""


def find_faults(table: Any, schema: Schema) -> list[str]:
    """Return a line for each fault of a table, in the order of the table. Missing fields of one object share a line."""
    errors = sorted(_validator(schema).iter_errors(table), key=lambda error: _sort_key(error.absolute_path))
    missing: dict[tuple[Any, ...], dict[str, str]] = {}
    rules: dict[tuple[Any, ...], list[str]] = {}
    faults: dict[tuple[Any, ...], list[str]] = {}
    for error in errors:
        at = tuple(error.absolute_path)
        faults.setdefault(at, [])
        if error.validator == "required":
            missing.setdefault(at, {}).update(_missing_fields(error, schema))
            if rule := _rule(error, schema):
                rules.setdefault(at, []).append(rule)
        else:
            faults[at] += _sentences(error, schema)
    lines = []
    for at, sentences in faults.items():
        place = _place(table, at)
        if missing.get(at):
            said = " ".join([_name_missing(missing[at], _path(at)), *dict.fromkeys(rules.get(at, []))])
            sentences = [said, *sentences]
        lines += [place + sentence for sentence in sentences]
    return list(dict.fromkeys(lines))


def show(value: Any) -> str:
    """Return a value as a message shows it: as JSON on one line, and cut if it is long."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def describe(schema: Any, root: Schema) -> str:
    """Return which values a schema allows, in words."""
    schema = _resolve(schema, root)
    if "const" in schema:
        return show(schema["const"])
    if "enum" in schema:
        return _join(map(show, schema["enum"]), "or")
    match schema["type"]:
        case "integer":
            return f"a whole number from {schema['minimum']} to {schema['maximum']}"
        case "boolean":
            return "true or false"
        case "string":
            length = f", of at most {schema['maxLength']} characters" if "maxLength" in schema else ""
            return f"text such as {show(schema['examples'][0])}{length}"
        case "array":
            size = "one or more " if schema.get("minItems") else ""
            once = ", each once" if schema.get("uniqueItems") else ""
            items = describe(schema["items"], root)
            objects = items.removeprefix("an object ")
            return (
                f"a list of {size}objects {objects}"
                if objects != items
                else f"a list of {size and size + 'of '}{items}{once}"
            )
    optional = [name for name in schema["properties"] if name not in schema["required"]]
    return f"an object with {_join(schema['required'], 'and')}" + (
        f" (optional: {', '.join(optional)})" if optional else ""
    )


def _validator(schema: Schema) -> Any:
    import jsonschema  # a tool of the build, which functions do not have

    def full_pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[Any]:
        # Python's "$" also matches before a line feed at the end.
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            yield jsonschema.ValidationError("pattern")

    strict = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
        jsonschema.Draft202012Validator,
        {"pattern": full_pattern},
        # JSON Schema accepts 32768.0 as an integer. The provider, which receives such numbers, does not.
        type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
            "integer", lambda _, value: type(value) is int
        ),
    )
    return strict(schema)


def _sentences(error: Any, root: Schema) -> Iterator[str]:
    """Yield what is wrong with a value, and what is allowed in its place."""
    field = _path(error.absolute_path) or ("the entry" if error.absolute_path else "the table")
    if error.validator == "not":
        yield f"{field} is {show(error.instance)}. Allowed: no {field}. {_rule(error, root)}"
    elif error.validator == "additionalProperties":
        known, inside = error.schema["properties"], _path(error.absolute_path)
        for name in error.instance:
            if name not in known:
                shown = show(name)[1:-1]
                yield f"{f'{inside}.' if inside else ''}{shown} is no field. Allowed: {', '.join(known)}."
    else:
        value = "empty" if error.instance in ([], "") else show(error.instance)
        pattern = f", of the pattern {error.validator_value}" if error.validator == "pattern" else ""
        yield f"{field} is {value}. Allowed: {describe(error.schema, root)}{pattern}."


def _missing_fields(error: Any, root: Schema) -> dict[str, str]:
    """Return the missing fields that an error is about, each with what is allowed."""
    known = (root["$defs"]["model"] if _rule(error, root) else error.schema)["properties"]
    names = [name for name in error.validator_value if name not in error.instance]
    return {name: describe(known[name], root) for name in names}


def _name_missing(fields: dict[str, str], inside: str) -> str:
    names = [f"{f'{inside}.' if inside else ''}{name}" for name in fields]
    if len(names) == 1:
        return f"{names[0]} is missing. Allowed: {next(iter(fields.values()))}."
    allowed = [f"{name} ({what})" for name, what in zip(names, fields.values(), strict=True)]
    return f"{len(names)} fields are missing: {', '.join(allowed)}."


def _rule(error: Any, root: Schema) -> str:
    """Return the comment of the rule between fields that an error is about, or nothing if it is about no such rule."""
    path = list(error.absolute_schema_path)
    if "allOf" not in path:
        return ""
    return str(root["$defs"]["model"]["allOf"][path[path.index("allOf") + 1]]["$comment"])


def _place(table: Any, at: tuple[Any, ...]) -> str:
    """Return which model a path is in, as a message begins."""
    if at[:1] != ("models",) or len(at) < 2:
        return ""
    entry = table["models"][at[1]]
    name = entry.get("model") if isinstance(entry, dict) else None
    return f"model {show(name)[1:-1] if isinstance(name, str) else f'number {at[1] + 1}'}: "


def _path(at: Iterable[Any]) -> str:
    """Return a path in words, within its model: tiers[0].input."""
    parts = list(at)
    if parts[:1] == ["models"] and len(parts) > 1:
        parts = parts[2:]
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def _resolve(schema: Any, root: Schema) -> Schema:
    resolved: Schema = root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return resolved


def _sort_key(path: Iterable[Any]) -> list[tuple[bool, int, str]]:
    """Return a key that orders entries of lists by their position, and fields by their name."""
    return [(isinstance(part, int), part if isinstance(part, int) else 0, str(part)) for part in path]


def _join(words: Iterable[str], last: str) -> str:
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail
