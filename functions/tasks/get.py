"""GET /tasks/{id}: a task with its text so far."""

from aideer.schemas.tasks import TaskView
from aideer.security.auth import Visitor
from aideer.tasks import control
from aideer.web.http import app, handler
from aideer.web.openapi import documented

__all__ = ["handler"]


@app.get("/api/v1/tasks/<id>", **documented("Look at a task", errors=(404,)))
def get(user: Visitor, id: str) -> TaskView:
    """Show one of your tasks."""
    return control.view(control.of(user, id), user)
