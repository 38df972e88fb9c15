"""POST /tasks/quote: what an answer would cost at most."""

from aideer import asking
from aideer.auth import Member
from aideer.contract.tasks import NewTask, Quote
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/tasks/quote", **documented("Ask for the price of an answer", errors=(403, 404, 413)))
def quote(user: Member, task: NewTask) -> Quote:
    """Say what POST /tasks would hold now, and do nothing."""
    return asking.quote(user, task)
