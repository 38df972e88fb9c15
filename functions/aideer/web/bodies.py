"""JSON bodies, and the validation errors that a caller may see. No error repeats a value or a name that the client sent."""

import json
import re
from collections.abc import AsyncIterable, Iterable
from typing import Any, get_args

from pydantic import BaseModel

from aideer.core import texts
from aideer.core.errors import AideerError, Detail, TooLarge, UnsupportedMediaType

SIZE = 1_000_000
"""The most characters of a body, as the event has it. Long messages and images have only Lambda's limit of 6 MB."""
JSON = "application/json"
KEYS = 32
"""The most keys of one object in a body. No type has so many fields, and each unknown one costs an error of a kilobyte."""
WIDE_KEYS = 200
"""The most keys of all objects in a body that exceed KEYS. The JSON schema of a response_format may have such objects."""
UNREADABLE = {"loc": ["body"], "msg": Detail("The body cannot be read."), "type": "body_unreadable"}
"""The error of a body that is no JSON."""
ERRORS = 100
"""The most errors in a response. More could make it larger than its request, and than Lambda's 6 MB."""
SCHEMA_CONTEXT = frozenset(
    {
        *("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern", "expected", "field_type"),
        *("class_name", "method_name", "discriminator", "expected_tags", "expected_schemes", "tz_expected"),
        *("max_digits", "decimal_places", "whole_digits", "expected_version"),
        "actual_length",  # a count
    }
)
"""Pydantic's message contexts that come from the schema. All others (`error`, `tag`, `input_value` …) may quote the input."""
_LISTS = ("expected", "expected_tags", "expected_schemes")
"""Message contexts that list values in English. A translation needs the values apart."""
_LISTED = re.compile(", | or ")


class InvalidRequest(AideerError):
    """The request does not have the form that the call takes."""

    status = 422

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("validation_error", "The request is not valid.")
        self.errors = errors

    def body(self) -> dict[str, Any]:
        """Return the response's JSON. Its detail is a list of {loc, msg, type}."""
        detail = [{**error, "msg": texts.translate(error["msg"])} for error in self.errors]
        return {"detail": detail, "code": self.code}


def too_large(most: int = SIZE) -> TooLarge:
    """Return the error of a body that has more than so many characters."""
    return TooLarge("too_large", Detail("A body can have at most {size} characters here.", size=most))


async def read_stream(stream: AsyncIterable[bytes], most: int = SIZE) -> bytes:
    """Return the body that comes in this stream. Raises TooLarge as soon as it has more than so many bytes."""
    raw = bytearray()
    async for piece in stream:
        raw += piece
        if len(raw) > most:
            raise too_large(most)
    return bytes(raw)


def wrong_type(expected: str) -> UnsupportedMediaType:
    """Return the error of a body of another media type."""
    return UnsupportedMediaType(
        "unsupported_media_type", Detail("This call takes a body of the type {type}.", type=expected)
    )


def read_json(body: str) -> Any:
    """Return a body's JSON (RFC 8259). Raises ValueError if it is not valid JSON, is a bare array, or has too many keys.

    No endpoint takes a bare array, and Powertools would take its first item for the whole. A byte order mark is ignored, as
    section 8.1 allows.
    """
    wide_keys = 0

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal wide_keys
        if len(pairs) > KEYS:
            wide_keys += len(pairs)
        if wide_keys > WIDE_KEYS:
            raise ValueError
        return dict(pairs)

    try:
        value = json.loads(body.removeprefix("\ufeff"), object_pairs_hook=build, parse_constant=_no_number)
    except RecursionError:
        raise ValueError from None
    if isinstance(value, list):
        raise ValueError  # noqa: TRY004 - the response is the same as for any unreadable body
    return value


def media_type(header: str | None) -> str:
    """Return the media type of a Content-Type header in lower case, without its parameters (RFC 9110, section 8.3.1)."""
    return (header or "").partition(";")[0].strip().lower()


def public_errors(body: Any, errors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first ERRORS of these Pydantic errors as {loc, msg, type}, without any data that the client sent.

    `body` is the type of the body, or None.

    For an unknown field, `loc` names its object, and the message lists the known fields.
    """
    shown: dict[tuple[Any, ...], dict[str, Any]] = {}
    for error in errors:
        loc, kind = list(error["loc"]), error["type"]
        unknown = kind == "extra_forbidden" and loc[0] == "body"
        if unknown:
            loc.pop()
        if (*loc, kind) in shown:
            continue
        msg = _unknown_field(_fields(body, loc)) if unknown else _message(error)
        shown[*loc, kind] = {"loc": loc, "msg": msg, "type": kind}
        if len(shown) == ERRORS:
            break
    return list(shown.values())


def _unknown_field(known: list[str]) -> str:
    if not known:
        return Detail("There is no such field. This object has others.")
    return Detail("There is no such field. This object has {fields}.", fields=known)


def _message(error: dict[str, Any]) -> str:
    """Return the message of an error, unless it may quote the input."""
    msg: str = error.get("msg", "")
    context = error.get("ctx") or {}
    if not set(context) <= SCHEMA_CONTEXT:
        return Detail("This is not valid here.")
    if isinstance(msg, Detail):
        return msg
    listed = {name: _LISTED.split(context[name]) for name in _LISTS if name in context}
    return Detail.of_kind(error["type"], msg, {**context, **listed})


def _no_number(_: str) -> Any:
    raise ValueError  # Python reads NaN and Infinity, but JSON does not have them


def _fields(body: Any, loc: list[str | int]) -> list[str]:
    """Return the names of the fields of the object at this place in the body."""
    model = _model(body)
    for part in loc[1:]:
        if model and isinstance(part, str):
            found = model.model_fields.get(part)
            model = _model(found.annotation) if found else None
    return list(model.model_fields) if model else []


def _model(annotation: Any) -> type[BaseModel] | None:
    """Return the model in `Model | None`, `list[Model]` or `Annotated[Model, …]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model, get_args(annotation))), None)
