"""GET /tasks/{id}: a task with its text so far."""

from aideer.schemas.tasks import TaskResponse
from aideer.security.readers import Reader
from aideer.tasks import control
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/tasks/<id>", **describe("Look at a task", errors=(404, 429)))
def get(user: Reader, id: str) -> TaskResponse:
    """Show one of your tasks."""
    return control.to_response(control.get_owned(user, id), user)
