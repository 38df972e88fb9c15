"""The ASGI app: errors become responses, log lines carry the request's id, and a firewall cannot be passed by.

http.py does the same for the resolver.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ValidationError
from pynamodb.exceptions import PynamoDBException
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aideer.core import aws_errors
from aideer.core.errors import (
    AideerError,
    Busy,
    Forbidden,
    NotFound,
    TooLarge,
    UnsupportedMediaType,
    traceback_summary,
)
from aideer.core.logs import logger
from aideer.web import bodies, origin
from aideer.web.openapi import USUAL_HEADERS

Model = TypeVar("Model", bound=BaseModel)
_OPEN = ("/ready", "/events")
"""The web adapter's own paths."""


def make_application(routes: Sequence[BaseRoute], lifespan: Callable[[Starlette], Any]) -> Starlette:
    """Return an app with these routes and with two that the web adapter calls. A method that a route lacks gets 404.

    The adapter polls GET /ready. It sends each event that is no HTTP request, such as a ping, as POST /events, which always answers
    an empty 204. Neither route calls AWS.
    """
    for route in routes:
        if isinstance(route, Route) and route.methods:
            # Starlette adds HEAD to every GET route, but a HEAD request must not open a stream.
            route.methods.discard("HEAD")
    return Starlette(
        routes=[*routes, Route("/ready", _alive), Route("/events", _ignore, methods=["POST"])],
        exception_handlers={
            AideerError: _answer_error,
            HTTPException: _answer_error,
            PynamoDBException: _answer_failure,
            BotoCoreError: _answer_failure,
            ClientError: _answer_failure,
        },
        middleware=[Middleware(_Logged)],
        lifespan=lifespan,
    )


async def read_body(request: Request, model: type[Model]) -> Model:
    """Return the request's JSON body as a model.

    Raises UnsupportedMediaType, TooLarge, and InvalidBody with the same response that http.py gives.
    """
    if bodies.media_type(request.headers.get("content-type")) not in ("", bodies.JSON):
        raise UnsupportedMediaType("unsupported_media_type", f"This call takes a body of the type {bodies.JSON}.")
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > bodies.SIZE:
            raise TooLarge("too_large", f"A body can have at most {bodies.SIZE} characters here.")
    try:
        value = bodies.read_json(raw.decode())
    except ValueError:
        raise InvalidBody([bodies.UNREADABLE]) from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = ({**dict(one), "loc": ("body", *one["loc"])} for one in error.errors())
        raise InvalidBody(bodies.public_errors(model, found)) from None


class InvalidBody(AideerError):
    """The body does not have the form that the call takes."""

    status = 422

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("validation_error", "The request is not valid.")
        self._errors = errors

    def body(self) -> dict[str, Any]:
        """Return the response's JSON. Its detail is a list of {loc, msg, type}."""
        return {"detail": self._errors, "code": self.code}


async def _answer_error(_: Request, error: Exception) -> JSONResponse:
    known = error if isinstance(error, AideerError) else NotFound("not_found", "This address does not exist.")
    return JSONResponse(known.body(), known.status, headers=known.headers)


async def _answer_failure(request: Request, error: Exception) -> JSONResponse:
    if not aws_errors.is_unavailable(error):
        raise error
    return await _answer_error(request, Busy())


async def _alive(_: Request) -> Response:
    return Response("ok", media_type="text/plain")


async def _ignore(_: Request) -> Response:
    return Response(status_code=204)


class _Logged:
    """Middleware: add the request's id to log lines, and USUAL_HEADERS to every response. Refuse what passed the firewall by.

    An unexpected error gets one log line, without the traceback that a server would log. The client gets a 500, unless the
    response has already begun.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in USUAL_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        context = _context(scope)
        logger.thread_safe_append_keys(correlation_id=context.get("requestId"))
        origin.remember_called(context.get("domainName", ""))
        try:
            if scope["path"] not in _OPEN:
                origin.require_domain(
                    {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
                )
            await self._app(scope, receive, sending)
        except Forbidden as error:
            await JSONResponse(error.body(), error.status)(scope, receive, sending)
        except Exception as error:
            logger.error("unhandled", extra={"error": type(error).__name__, "at": traceback_summary(error)})
            if not begun:
                answer = JSONResponse({"detail": "The service had an internal error.", "code": "internal"}, 500)
                await answer(scope, receive, sending)


def _context(scope: Scope) -> dict[str, Any]:
    """Return the request's context from API Gateway or the Lambda URL. The web adapter passes the latter's in a header."""
    with contextlib.suppress(KeyError, ValueError, TypeError):
        if "aws.event" in scope:
            return dict(scope["aws.event"]["requestContext"])
        return dict(json.loads(dict(scope["headers"])[b"x-amzn-request-context"]))
    return {}
