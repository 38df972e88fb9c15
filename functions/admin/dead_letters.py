"""GET /api/v1/admin/dead-letters: the messages that failed five times."""

from aideer.schemas.admin import DeadLettersResponse
from aideer.security.callers import Admin
from aideer.tasks import dead_letters
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/admin/dead-letters", **describe("List dead letters", errors=(403,)))
def show(user: Admin) -> DeadLettersResponse:  # noqa: ARG001 - its type lets administrators in only
    """List at most 100 messages that failed five times, with the state of their tasks and jobs. It changes nothing."""
    return dead_letters.read()
