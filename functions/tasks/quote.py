"""POST /tasks/quote: the most that an answer would cost."""

from aideer import asking
from aideer.auth import Member
from aideer.contract.tasks import NewTask, Quote
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/tasks/quote", **documented("Ask for the price of an answer", errors=(403, 404, 413)))
def quote(user: Member, task: NewTask) -> Quote:
    """Return the hold that POST /tasks would make now, without making it."""
    return asking.quote(user, task)
