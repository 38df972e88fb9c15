"""Errors in the form of OpenAI's API: {"error": {message, type, param, code}}.

Clients show the message, and their retries go by the status: 408, 409, 429 and from 500 on are repeated. So 409 is never used, and
a status that is repeated says that nothing has happened, or comes with x-should-retry: false.
"""

from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse

from aideer.core import texts
from aideer.core.errors import AideerError, Detail
from aideer.data.models import Task
from aideer.tasks import control

NOT_AGAIN = {"x-should-retry": "false"}
"""OpenAI's clients obey this."""
REFUSED_REQUEST = Detail("The provider refuses this request: a parameter, the order of the messages, or the model.")
_REQUEST, _SERVER = "invalid_request_error", "server_error"
_CODES = {
    "context_too_long": "context_length_exceeded",
    "too_large": "context_length_exceeded",
    "key_limit_reached": "insufficient_credits",
    "model_without_vision": "unsupported_parameter",
}
_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    429: "rate_limit_error",
}
_KEPT = {
    "insufficient_credits",
    "model_not_allowed",
    "model_not_found",
    "unsupported_parameter",
    "not_found",
    "visitor",
}
_FIXED = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error, as the client gets it."""

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    headers: dict[str, str] | None = None

    def body(self) -> dict[str, Any]:
        """Return the response's JSON."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """Return the response."""
        return JSONResponse(self.body(), self.status, headers=self.headers)


def of_error(error: AideerError) -> Refusal:
    """Return the refusal of an error before the first byte."""
    status = {409: 400, 413: 400, 415: 400, 422: 400}.get(error.status, error.status)
    headers = (
        error.answer_headers()
        if status < 500 or "Retry-After" in error.headers
        else {**error.answer_headers(), **NOT_AGAIN}
    )
    kind = _SERVER if status >= 500 else _TYPES.get(status, _REQUEST)
    return Refusal(
        status, texts.translate(error.detail), kind, _code(error, status), getattr(error, "param", None), headers
    )


def of_failure(task: Task) -> Refusal:
    """Return the refusal of a task that has failed. The hold is released, and the provider may have worked: so do not try again.

    After a throttled call the provider has done nothing, so a client may try again.
    """
    code = task.error_code or "internal_error"
    message = control.explain(code)
    match code:
        case "throttled":
            return Refusal(429, message, "rate_limit_error", "rate_limit_exceeded", headers={"Retry-After": "20"})
        case "content_filtered":
            return Refusal(400, message, _REQUEST, "content_filter", headers=NOT_AGAIN)
        case "context_too_long":
            return Refusal(400, message, _REQUEST, "context_length_exceeded", headers=NOT_AGAIN)
        case "image_unavailable":
            return Refusal(400, message, _REQUEST, "invalid_image_url", headers=NOT_AGAIN)
        case "model_unavailable":
            # The price table has the model. So a parameter or the order of the messages is the likelier cause.
            return Refusal(400, texts.translate(REFUSED_REQUEST), _REQUEST, "invalid_value", headers=NOT_AGAIN)
        case "upstream_timeout":
            return Refusal(504, message, _SERVER, code, headers=NOT_AGAIN)
    return Refusal(502, message, _SERVER, code, headers=NOT_AGAIN)


def of_lost_text() -> Refusal:
    """Return the refusal of an answer that was made and billed, and whose text is not stored whole."""
    return Refusal(502, control.explain("internal_error"), _SERVER, "internal_error", headers=NOT_AGAIN)


def _code(error: AideerError, status: int) -> str:
    if status in _FIXED:
        return _FIXED[status]
    code = _CODES.get(error.code, error.code)
    if code.endswith("_not_supported"):
        return "unsupported_parameter"
    if status == 400 and code not in {*_KEPT, *_CODES.values(), "invalid_image_url"}:
        return "invalid_value"
    return code
