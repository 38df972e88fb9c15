"""The ASGI app: errors become responses, log lines carry the request's id, and a firewall cannot be passed by.

http.py does the same for the resolver.
"""

import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ValidationError
from pynamodb.exceptions import PynamoDBException
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aideer.core import aws_errors, texts
from aideer.core.errors import AideerError, Busy, Forbidden, Internal, NotFound, traceback_summary
from aideer.core.logs import logger
from aideer.web import bodies, origin
from aideer.web.openapi import USUAL_HEADERS

Model = TypeVar("Model", bound=BaseModel)
_Handler = Callable[[Request, Exception], Awaitable[Response]]
_OPEN = ("/ready", "/events")
"""The web adapter's own paths."""


def make_application(
    routes: Sequence[BaseRoute],
    lifespan: Callable[[Starlette], Any],
    to_response: Callable[[AideerError], Response] | None = None,
) -> Starlette:
    """Return an app with these routes and with two that the web adapter calls. A method that a route lacks gets 404.

    `to_response` returns the response of an error, if it has another form than http.py gives.

    The adapter polls GET /ready. It sends each event that is no HTTP request, such as a ping, as POST /events, which always answers
    an empty 204. Neither route calls AWS.
    """
    for route in routes:
        if isinstance(route, Route) and route.methods:
            # Starlette adds HEAD to every GET route, but a HEAD request must not open a stream.
            route.methods.discard("HEAD")
    answer_error, answer_failure = _make_handlers(to_response or _to_response)
    return Starlette(
        routes=[*routes, Route("/ready", _alive), Route("/events", _ignore, methods=["POST"])],
        exception_handlers={
            AideerError: answer_error,
            HTTPException: answer_error,
            PynamoDBException: answer_failure,
            BotoCoreError: answer_failure,
            ClientError: answer_failure,
        },
        middleware=[Middleware(_Logged, answer_error=answer_error)],
        lifespan=lifespan,
    )


async def read_body(request: Request, model: type[Model]) -> Model:
    """Return the request's JSON body as a model.

    Raises UnsupportedMediaType, TooLarge, and InvalidRequest with the same response that http.py gives.
    """
    if bodies.media_type(request.headers.get("content-type")) not in ("", bodies.JSON):
        raise bodies.wrong_type(bodies.JSON)
    raw = await bodies.read_stream(request.stream())
    try:
        value = bodies.read_json(raw.decode())
    except ValueError:
        raise bodies.InvalidRequest([bodies.UNREADABLE]) from None
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = ({**dict(one), "loc": ("body", *one["loc"])} for one in error.errors())
        raise bodies.InvalidRequest(bodies.public_errors(model, found)) from None


def _to_response(error: AideerError) -> Response:
    return JSONResponse(error.body(), error.status, headers=error.answer_headers())


def _make_handlers(to_response: Callable[[AideerError], Response]) -> tuple[_Handler, _Handler]:
    """Return the handlers of AIDeer's errors, and of failures of AWS."""

    async def answer_error(_: Request, error: Exception) -> Response:
        known = error if isinstance(error, AideerError) else NotFound("not_found", "This address does not exist.")
        return to_response(known)

    async def answer_failure(request: Request, error: Exception) -> Response:
        if not aws_errors.is_unavailable(error):
            raise error
        return await answer_error(request, Busy())

    return answer_error, answer_failure


async def _alive(_: Request) -> Response:
    return Response("ok", media_type="text/plain")


async def _ignore(_: Request) -> Response:
    return Response(status_code=204)


class _Logged:
    """Middleware: add the request's id to log lines, and USUAL_HEADERS to every response. Refuse what passed the firewall by.

    It also notes the language that the reader prefers (core/texts.py).

    An unexpected error gets one log line, without the traceback that a server would log. The client gets a 500, unless the
    response has already begun.
    """

    def __init__(self, app: ASGIApp, answer_error: _Handler) -> None:
        self._app = app
        self._answer_error = answer_error

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
        texts.accept_language.set(", ".join(Headers(scope=scope).getlist("accept-language")))
        try:
            if scope["path"] not in _OPEN:
                origin.require_domain(
                    {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
                )
            await self._app(scope, receive, sending)
        except Forbidden as error:
            answer = await self._answer_error(Request(scope), error)
            await answer(scope, receive, sending)
        except Exception as error:
            logger.error("unhandled", extra={"error": type(error).__name__, "at": traceback_summary(error)})
            if not begun:
                answer = await self._answer_error(Request(scope), Internal())
                await answer(scope, receive, sending)


def _context(scope: Scope) -> dict[str, Any]:
    """Return the request's context from API Gateway or the Lambda URL. The web adapter passes the latter's in a header."""
    with contextlib.suppress(KeyError, ValueError, TypeError):
        if "aws.event" in scope:
            return dict(scope["aws.event"]["requestContext"])
        return dict(json.loads(dict(scope["headers"])[b"x-amzn-request-context"]))
    return {}
