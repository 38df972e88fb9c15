"""What can go wrong, as the caller sees it. http.py turns these into answers, and nothing else does."""

from typing import Any


class AideerError(Exception):
    """An error that a caller may see: a stable code, a sentence, and fields that help to go on."""

    status = 500

    def __init__(self, code: str, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"detail": self.detail, "code": self.code, **self.extra}


class BadRequest(AideerError):
    status = 400


class Unauthorized(AideerError):
    status = 401

    def __init__(self, code: str = "unauthorized", detail: str = "Sign in first.") -> None:
        super().__init__(code, detail, headers={"WWW-Authenticate": "Bearer"})


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


class Busy(AideerError):
    """Nothing is wrong but the moment: contention outlasted our patience, and nothing happened."""

    status = 503

    def __init__(self, code: str = "busy", detail: str = "Too much is happening here at once. Try again.") -> None:
        super().__init__(code, detail, headers={"Retry-After": "1"})
