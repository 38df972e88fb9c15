"""Request validation: media types, query parameters and bodies.

Invariants: a call accepts only the media type that its parameters declare, in any letter case and with any media type parameters.
A call refuses an unknown query parameter, and a repeated parameter of a query or a form. The caller is authenticated before the
request is validated.
"""

import base64
from collections.abc import Collection, Mapping
from typing import Any
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

from aideer.core.texts import Detail
from aideer.web.bodies import JSON, media_type

FIELDS = 100
"""The most fields of a form."""
FORM, MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"
EXTENSIBLE = frozenset({"/api/v1/session/wechat/callback"})
"""Routes that another server calls. RFC 6749, section 4.1.2, requires a client to ignore unknown response parameters."""


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
            raise RequestValidationError([{"loc": ("query",), "msg": _unknown(known), "type": "extra_forbidden"}])
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


def body_type(route: Any) -> Any:
    """Return the type of this route's body, or None."""
    return next((field.field_info.annotation for field in route.dependant.body_params), None)


def _unknown(known: list[str]) -> Detail:
    if not known:
        return Detail("There is no such query parameter. This call takes none.")
    return Detail("There is no such query parameter. This call takes {parameters}.", parameters=known)


def _require_single(place: str, known: Collection[str], sent: Mapping[str, list[Any]]) -> None:
    """Raise RequestValidationError if a known parameter comes more than once.

    No call takes a list in a query or a form. RFC 6749, section 3.2, forbids repetition, and requires that unknown parameters are
    ignored.
    """
    if repeated := [name for name in known if len(sent.get(name, ())) > 1]:
        msg = Detail("This parameter may come only once.")
        raise RequestValidationError([{"loc": (place, name), "msg": msg, "type": "repeated"} for name in repeated])
