"""POST /api/v1/admin/dead-letters/redrive: put dead letters back on their queues."""

from aideer.schemas.admin import RedriveResponse
from aideer.security.callers import Admin
from aideer.tasks import dead_letters
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/admin/dead-letters/redrive", **describe("Put dead letters back on their queues", errors=(403,)))
def redrive(admin: Admin) -> RedriveResponse:
    """Put the messages back, for at most 20 seconds. Mend the cause first. The audit trail records it.

    It may be repeated: a task that is not pending any more, and a job that is done, are passed over.
    """
    return dead_letters.redrive(admin)
