"""The one resolver of all endpoints, and the one place that turns errors into responses.

A handler file imports `app` to declare its route, and `handler` as Lambda's entry. Each Lambda function loads one such file.
"""

import functools
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.depends import DependencyResolutionError
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.openapi.exceptions import (
    RequestUnsupportedContentType,
    RequestValidationError,
)
from aws_lambda_powertools.logging import correlation_paths
from aws_lambda_powertools.shared.json_encoder import Encoder
from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer.core import texts
from aideer.core.errors import AideerError, Busy, Forbidden, Internal, NotFound, traceback_summary
from aideer.core.logs import logger
from aideer.core.warmth import answers_pings
from aideer.web import bodies, origin
from aideer.web.answers import without_body
from aideer.web.bodies import InvalidRequest
from aideer.web.openapi import add_usual_headers
from aideer.web.validation import RequestValidation, body_type, declared_type

_LONG = ("/api/v1/chats", "/api/v1/users/me/avatar")
_serialize = functools.partial(json.dumps, separators=(",", ":"), ensure_ascii=False, cls=Encoder)

app = APIGatewayHttpResolver(
    enable_validation=True,
    json_body_deserializer=bodies.read_json,
    response_validation_error_http_code=HTTPStatus.INTERNAL_SERVER_ERROR,
    serializer=_serialize,
)
app._request_validation_middleware = RequestValidation()  # type: ignore[no-untyped-call]

_charges: list[Callable[[int], AideerError | None]] = []

refusals: dict[str, Callable[[dict[str, Any], AideerError], dict[str, Any]]] = {}
"""By path: a function that gives a refusal, as Lambda returns it, the form that this endpoint's standard requires.

It also gets the error, whose texts are English."""
_refused: AideerError = Internal()
"""The error of the newest refusal. A process answers one request at a time."""


@answers_pings
@logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Answer a request to any HTTP endpoint (Lambda's entry). If the template routes HEAD, it is GET without the body."""
    # AWS sends names in lower case, and the SAM CLI does not.
    headers = {name.lower(): value for name, value in event["headers"].items()}
    texts.accept_language.set(headers.get("accept-language"))
    try:
        origin.require_domain(headers)
    except Forbidden as error:
        return _refuse(error)  # in no endpoint's own form: it has reached none
    answer = _resolve(event, context)
    shape = refusals.get(event["rawPath"]) if answer["statusCode"] >= HTTPStatus.BAD_REQUEST else None
    return shape(answer, _refused) if shape else answer


def on_answer(charge: Callable[[int], AideerError | None]) -> None:
    """Call `charge` with the size of this request's answer, in bytes. The error that it returns replaces the answer to a GET."""
    _charges.append(charge)


def _resolve(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    request = event["requestContext"]["http"]
    origin.remember_called(event["requestContext"]["domainName"])
    if request["method"] == "HEAD":
        whole = handler(
            {**event, "requestContext": {**event["requestContext"], "http": {**request, "method": "GET"}}}, context
        )
        return without_body(whole)
    if len(event.get("body") or "") > bodies.SIZE and not event["rawPath"].startswith(_LONG):
        answer = _refuse(bodies.too_large())
    else:
        _charges.clear()
        answer = _charge(app.resolve(event, context), request["method"])
    answer["headers"] = add_usual_headers(answer["headers"])
    return answer


def _charge(answer: dict[str, Any], method: str) -> dict[str, Any]:
    for charge in _charges:
        error = charge(len((answer.get("body") or "").encode()))
        if error and method == "GET" and answer["statusCode"] == HTTPStatus.OK:
            return _refuse(error)
    return answer


def _refuse(error: AideerError) -> dict[str, Any]:
    refusal = _answer(error)
    headers = add_usual_headers(refusal.headers)
    return {"statusCode": refusal.status_code, "headers": headers, "body": refusal.body, "isBase64Encoded": False}


@app.exception_handler(AideerError)
def _answer_declared(error: AideerError) -> Response[Any]:
    return _answer(error)


@app.exception_handler(DependencyResolutionError)
def _answer_unauthenticated(error: DependencyResolutionError) -> Response[Any]:
    # The cause is no error of the body, even if it is a ValueError.
    cause = error.__cause__
    if isinstance(cause, AideerError):
        return _answer(cause)
    return _answer_failure(cause if isinstance(cause, Exception) else error)


@app.exception_handler(RequestValidationError)
def _invalid(error: RequestValidationError) -> Response[Any]:
    return _answer(InvalidRequest(bodies.public_errors(body_type(app.context["_route"]), error.errors())))


@app.exception_handler([UnicodeDecodeError, ValueError])
def _unreadable(error: ValueError) -> Response[Any]:
    # Only the body's parser may raise these bare (not UTF-8, multipart without a boundary). From a handler they are bugs.
    if "_route_args" in app.context and error.__traceback__ and _raised_in_handler(error):
        return _answer_failure(error)
    return _answer(InvalidRequest([bodies.UNREADABLE]))


@app.exception_handler(RequestUnsupportedContentType)
def _answer_unsupported(_: RequestUnsupportedContentType) -> Response[Any]:
    return _answer(bodies.wrong_type(declared_type(app.context["_route"])))


@app.not_found
def _no_route(_: NotFoundError) -> Response[Any]:
    return _answer(NotFound("not_found", "This address does not exist."))


@app.exception_handler(Exception)
def _unknown(error: Exception) -> Response[Any]:
    return _answer_failure(error)


def _answer(error: AideerError) -> Response[Any]:
    global _refused
    _refused = error
    return Response(
        status_code=error.status,
        content_type="application/json",
        headers=dict(error.answer_headers()),
        body=_serialize(error.body()),
    )


def _answer_failure(error: Exception) -> Response[Any]:
    if type(error).__module__.partition(".")[0] in ("botocore", "pynamodb"):
        from aideer.core import aws_errors

        if aws_errors.is_unavailable(error):
            return _answer(Busy())
    logger.error("unhandled", extra={"error": type(error).__name__, "at": traceback_summary(error)})
    return _answer(Internal())


def _raised_in_handler(error: BaseException) -> bool:
    frame = error.__traceback__
    while frame and frame.tb_frame.f_globals.get("__name__") != app.context["_route"].func.__module__:
        frame = frame.tb_next
    return frame is not None
