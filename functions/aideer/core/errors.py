"""The errors that a caller may see. http.py, asgi.py and, during an answer, tasks/stream.py turn them into responses.

Write the text of an error in English, where you raise it. A text with a value is a `Detail`, and not an f-string. The catalogue
in chinese.py needs each text too: tests/unit/test_texts.py names those that it lacks.
"""

from typing import Any

from aideer.core import texts
from aideer.core.texts import Detail as Detail  # beside the errors, for the modules that raise them

_INNERMOST = 6


def traceback_summary(error: BaseException) -> list[str]:
    """Return where an error was raised, for a log. The error's message could quote a user's text."""
    places, frame = [], error.__traceback__
    while frame:
        places.append(f"{frame.tb_frame.f_globals.get('__name__')}:{frame.tb_lineno}")
        frame = frame.tb_next
    return places[-_INNERMOST:]


class AideerError(Exception):
    """An error that a caller may see: a stable code, a text, and fields that help the caller to continue.

    `detail` stays English here. The response has it in the language of the reader.
    """

    status = 500

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """Return the response's JSON."""
        return {"detail": texts.translate(self.detail), "code": self.code, **self.extra}

    def answer_headers(self) -> dict[str, str]:
        """Return the response's headers."""
        return {**self.headers, **texts.language_headers()}


class Internal(AideerError):
    """An error that is a fault of ours."""

    def __init__(self, code: str = "internal", detail: str = "The service had an internal error.") -> None:
        super().__init__(code, detail)


class BadRequest(AideerError):
    status = 400


class Unauthorized(AideerError):
    """The request has no token, or its password, code or ticket is wrong."""

    status = 401
    challenge = "Bearer"  # without `error`, because no token was checked (RFC 6750, section 3.1)

    def __init__(self, code: str = "unauthorized", detail: str = "Sign in first.") -> None:
        super().__init__(code, detail, headers={"WWW-Authenticate": self.challenge})


class InvalidToken(Unauthorized):
    """The token is malformed, expired, revoked, or of another kind (RFC 6750, section 3.1)."""

    status = 401
    challenge = 'Bearer error="invalid_token"'

    def __init__(self, code: str = "token_revoked", detail: str = "This token was revoked. Sign in again.") -> None:
        super().__init__(code, detail)


class PaymentRequired(AideerError):
    status = 402


class Forbidden(AideerError):
    status = 403

    def __init__(self, code: str = "forbidden", detail: str = "You may not do this.") -> None:
        super().__init__(code, detail)


class NotFound(AideerError):
    status = 404


class Conflict(AideerError):
    status = 409


class Gone(AideerError):
    status = 410


class PreconditionFailed(AideerError):
    status = 412


class TooLarge(AideerError):
    status = 413


class UnsupportedMediaType(AideerError):
    status = 415


class Unprocessable(AideerError):
    status = 422


class PreconditionRequired(AideerError):
    status = 428


class TooManyRequests(AideerError):
    status = 429

    def __init__(self, code: str, detail: str, *, retry_after: int) -> None:
        super().__init__(code, detail, headers={"Retry-After": str(retry_after)})


class BadGateway(AideerError):
    """An external service failed. The request itself is correct."""

    status = 502


class Unavailable(AideerError):
    """The operator has not set up this feature."""

    status = 503

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code, detail, headers={"Retry-After": "300"})  # aws.py reads secrets again after that


class Busy(AideerError):
    """Contention lasted longer than all retries, and nothing was changed. The request itself is correct."""

    status = 503

    def __init__(self, code: str = "busy", detail: str = "The service is busy. Try again.") -> None:
        super().__init__(code, detail, headers={"Retry-After": "1"})
