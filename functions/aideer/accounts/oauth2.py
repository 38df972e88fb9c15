"""The token endpoint of RFC 6749: its grants, and its form of refusals.

A grant is a name with a password (section 4.3), or a refresh token (section 6) of either kind of session. Every answer without a
token carries `error` and `error_description` (section 5.2) beside `detail` and `code`. OAuth2 clients take an answer without
`error` for a token.
"""

import json
import re
from http import HTTPStatus
from typing import Any, Literal

from aws_lambda_powertools.event_handler.openapi.exceptions import RequestValidationError

from aideer.accounts import sessions, wechat_sessions
from aideer.core.errors import AideerError, InvalidToken
from aideer.schemas.sessions import TokensResponse
from aideer.security import auth
from aideer.web import http
from aideer.web.bodies import InvalidRequest
from aideer.web.openapi import NO_STORE

PATH = "/api/v1/session/oauth2/token"
GrantType = Literal["password", "refresh_token"]

_BUSY = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE}
_NOT_ALLOWED = re.compile(r"[^\x20\x21\x23-\x5b\x5d-\x7e]")  # characters that error_description may not have
_LONGEST_DESCRIPTION = 500


def issue_tokens(
    grant_type: GrantType,
    username: str | None,
    password: str | None,
    refresh_token: str | None,
    address: str,
    device: str | None = None,
) -> TokensResponse:
    """Return a pair of tokens for a grant. `device` is the name of the device.

    Raises RequestValidationError if a parameter of this grant is missing or empty, and InvalidToken for another kind of token.
    Raises also the errors of `sessions` and `wechat_sessions`.
    """
    if grant_type == "password":
        given = _require(username=username, password=password)
        return sessions.sign_in(given["username"], given["password"], address, device)
    claims = auth.verify(_require(refresh_token=refresh_token)["refresh_token"])
    if claims["typ"] != "refresh":
        raise InvalidToken("wrong_token_type", "This call takes a refresh token.")
    refresh = wechat_sessions.refresh if claims["amr"] == "wechat" else sessions.refresh
    return refresh(claims, device)


def format_refusal(answer: dict[str, Any], refused: AideerError) -> dict[str, Any]:
    """Return a refusal of this endpoint in the form of RFC 6749, section 5.2. `answer` is the refusal as Lambda returns it.

    A wrong password or token is 400 `invalid_grant` here, instead of 401 or 403. An invalid form is 400 instead of 422. The other
    statuses stay. `error_description` is English in every language of the reader, because it may have ASCII characters only.
    """
    body, status = json.loads(answer["body"]), HTTPStatus(answer["statusCode"])
    error = _error(status, body)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.UNPROCESSABLE_ENTITY):
        status = HTTPStatus.BAD_REQUEST
    headers = {name: value for name, value in answer["headers"].items() if name.lower() != "www-authenticate"}
    body = {"error": error, "error_description": _description(refused), **body}
    headers = {name: value for name, value in headers.items() if name.lower() not in map(str.lower, NO_STORE)}
    return {
        **answer,
        "statusCode": status.value,
        "headers": {**headers, **NO_STORE},
        "body": json.dumps(body, separators=(",", ":"), ensure_ascii=False),
    }


http.refusals[PATH] = format_refusal


def _require(**parameters: str | None) -> dict[str, str]:
    # A parameter without a value counts as left out (RFC 6749, section 3.2).
    missing = [name for name, value in parameters.items() if not value]
    if missing:
        raise RequestValidationError(
            [{"loc": ("body", name), "msg": "Field required", "type": "missing"} for name in missing]
        )
    return {name: value for name, value in parameters.items() if value}


def _error(status: HTTPStatus, body: dict[str, Any]) -> str:
    if status in _BUSY:
        return "temporarily_unavailable"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "server_error"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return "invalid_grant"
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and any(map(_is_unknown_grant, body["detail"])):
        return "unsupported_grant_type"
    return "invalid_request"


def _is_unknown_grant(error: dict[str, Any]) -> bool:
    return bool(error["type"] == "literal_error" and error["loc"][-1] == "grant_type")


def _description(refused: AideerError) -> str:
    if isinstance(refused, InvalidRequest):
        detail = "; ".join(f"{error['loc'][-1]}: {error['msg']}" for error in refused.errors)
    else:
        detail = refused.detail
    return _NOT_ALLOWED.sub("'", detail)[:_LONGEST_DESCRIPTION]
