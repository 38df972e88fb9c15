"""Request validation: media types, query parameters and bodies, and the validation errors that a caller may see.

Invariants: a call accepts only the media type that its parameters declare, in any letter case and with any media type parameters.
A call refuses an unknown query parameter, and a repeated parameter of a query or a form. No error repeats a value or a name that
the client sent. The caller is authenticated before the request is validated.
"""

import base64
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, get_args
from urllib.parse import parse_qs

from aws_lambda_powertools.event_handler.api_gateway import _DEPENDS_CACHE_KEY
from aws_lambda_powertools.event_handler.depends import build_dependency_tree, solve_dependencies
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.event_handler.middlewares.openapi_validation import OpenAPIRequestValidationMiddleware
from aws_lambda_powertools.event_handler.openapi.exceptions import (
    RequestUnsupportedContentType,
    RequestValidationError,
)
from aws_lambda_powertools.event_handler.openapi.params import File, Form
from pydantic import BaseModel

KEYS = 32
"""The most keys of one object in a body. No type has so many fields, and each unknown one costs an error of a kilobyte."""
WIDE_KEYS = 200
"""The most keys of all objects in a body that exceed KEYS. The JSON schema of a response_format may have such objects."""
FIELDS = 100
"""The most fields of a form."""
ERRORS = 100
"""The most errors in a response. More could make it larger than its request, and than Lambda's 6 MB."""
JSON, FORM, MULTIPART = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
EXTENSIBLE = frozenset({"/api/v1/session/wechat/callback"})
"""Routes that another server calls. RFC 6749, section 4.1.2, requires a client to ignore unknown response parameters."""
SCHEMA_CONTEXT = frozenset(
    {
        *("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern", "expected", "field_type"),
        *("class_name", "method_name", "discriminator", "expected_tags", "expected_schemes", "tz_expected"),
        *("max_digits", "decimal_places", "whole_digits", "expected_version"),
        "actual_length",  # a count
    }
)
"""Pydantic's message contexts that come from the schema. All others (`error`, `tag`, `input_value` …) may quote the input."""


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


class RequestValidation(OpenAPIRequestValidationMiddleware):
    """Powertools' validation with stricter rules.

    Powertools itself reads a body by its Content-Type's exact spelling, and ignores unknown query parameters.
    """

    def handler(self, app: Any, next_middleware: NextMiddleware) -> Any:
        """Authenticate the caller, then validate the request of `app`.

        Raises RequestValidationError and RequestUnsupportedContentType. If a dependency raises an error, raises
        DependencyResolutionError from it.
        """
        route = app.context["_route"]
        # Powertools solves dependencies after validation, but reuses the ones in this cache. So no user is read twice.
        solved: dict[Any, Any] = {}
        app.context[_DEPENDS_CACHE_KEY] = solved
        solve_dependencies(dependant=build_dependency_tree(route.func), request=app.request, dependency_cache=solved)
        known = [field.alias for field in route.dependant.query_params]
        if route.path not in EXTENSIBLE and not set(app.current_event.get("queryStringParameters") or ()) <= set(known):
            msg = f"There is no such query parameter. This call takes {', '.join(known) or 'none'}."
            raise RequestValidationError([{"loc": ("query",), "msg": msg, "type": "extra_forbidden"}])
        _require_single("query", known, parse_qs(app.current_event.get("rawQueryString") or "", True))
        return super().handler(app, next_middleware)

    def _get_body(self, app: Any) -> Any:
        """Return the body, parsed as the media type that the route declares, or None if it is empty."""
        event = app.current_event
        if not event.body:
            return None
        header = event.headers.get("content-type")
        expected = declared_type(app.context["_route"])
        if (media_type(header) or expected) != expected:
            raise RequestUnsupportedContentType("", errors=[])
        if expected == JSON:
            return self._parse_json_data(app)
        if expected == FORM:
            parts: dict[str, list[Any]] = parse_qs(event.decoded_body, keep_blank_values=True, max_num_fields=FIELDS)
        else:
            from aideer.web import multipart  # only an upload needs it

            body = base64.b64decode(event.body) if event.is_base64_encoded else event.body.encode()
            parts = multipart.parse(header, body)
        known = [field.alias for field in app.context["_route"].dependant.body_params]
        _require_single("body", known, parts)
        return {name: values[0] for name, values in parts.items()}


def declared_type(route: Any) -> str:
    """Return the media type of this route's body."""
    infos = [field.field_info for field in route.dependant.body_params]
    if any(isinstance(info, File) for info in infos):
        return MULTIPART
    return FORM if any(isinstance(info, Form) for info in infos) else JSON


def _require_single(place: str, known: Collection[str], sent: Mapping[str, list[Any]]) -> None:
    """Raise RequestValidationError if a known parameter comes more than once.

    No call takes a list in a query or a form. RFC 6749, section 3.2, forbids repetition, and requires that unknown parameters are
    ignored.
    """
    if repeated := [name for name in known if len(sent.get(name, ())) > 1]:
        msg = "This parameter may come only once."
        raise RequestValidationError([{"loc": (place, name), "msg": msg, "type": "repeated"} for name in repeated])


def public_errors(route: Any, errors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first ERRORS of these Pydantic errors as {loc, msg, type}, without any data that the client sent.

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
        if unknown:
            msg = f"There is no such field. This object has {', '.join(_fields(route, loc)) or 'others'}."
        else:
            quotes = not set(error.get("ctx") or ()) <= SCHEMA_CONTEXT
            msg = "This is not valid here." if quotes else error.get("msg", "")
        shown[*loc, kind] = {"loc": loc, "msg": msg, "type": kind}
        if len(shown) == ERRORS:
            break
    return list(shown.values())


def _no_number(_: str) -> Any:
    raise ValueError  # Python reads NaN and Infinity, but JSON does not have them


def _fields(route: Any, loc: list[str | int]) -> list[str]:
    """Return the names of the fields of the object at this place in the body."""
    model = _model(next((field.field_info.annotation for field in route.dependant.body_params), None))
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
