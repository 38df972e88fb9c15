"""POST /tasks/{id}/stop: stop an answer, keep its text so far, and pay for that much."""

from aws_lambda_powertools.event_handler import Response

from aideer.schemas.tasks import TaskResponse
from aideer.security.callers import Visitor
from aideer.tasks import control
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

PATIENCE_SECONDS = 5


@app.post(
    "/api/v1/tasks/<id>/stop",
    **describe("Stop a task", errors=(404, 429), also={202: "It will stop, but has not settled yet."}),
)
def stop(user: Visitor, id: str) -> Response[TaskResponse]:
    """Return the task once it has settled, or with 202 if that takes longer. A task that has already ended is returned as it is."""
    task = control.stop_own(user, id, PATIENCE_SECONDS)
    status = 202 if task.is_open else 200
    return Response(status_code=status, content_type="application/json", body=control.to_response(task, user))
