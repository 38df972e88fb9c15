"""GET /tasks/{id}: a task with its text so far."""

from aideer import tasks
from aideer.auth import Visitor
from aideer.contract.tasks import TaskView
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.get("/api/v1/tasks/<id>", **documented("Look at a task", errors=(404,)))
def get(user: Visitor, id: str) -> TaskView:
    """Show one of your tasks."""
    return tasks.view(tasks.of(user, id), user)
