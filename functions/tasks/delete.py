"""DELETE /tasks/{id}: delete a task that has ended."""

from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.tasks import control
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/tasks/<id>", **describe("Delete a task", errors=(404,)))
def delete(user: Visitor, id: str) -> DoneResponse:
    """Delete one of your tasks that has ended. Its message and its cost stay; the task and its stream are 404 from then on."""
    control.delete(control.get_owned(user, id))
    return DoneResponse(message="Deleted.")
