"""POST /tasks/quote: the most that an answer would cost."""

from aideer.schemas.questions import NewTask
from aideer.schemas.tasks import QuoteResponse
from aideer.security.callers import Member
from aideer.tasks import admission
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/tasks/quote", **describe("Ask for the price of an answer", errors=(400, 403, 404, 413, 429)))
def quote(user: Member, task: NewTask) -> QuoteResponse:
    """Return the hold that POST /tasks would make now, without making it."""
    return admission.quote(user, task)
