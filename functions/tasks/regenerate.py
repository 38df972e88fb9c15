"""POST /tasks/{id}/regenerate: another answer to the same question."""

from aideer import asking
from aideer.auth import Unread
from aideer.contract.headers import IdempotencyKey
from aideer.contract.tasks import AcceptedTask
from aideer.http import app, handler
from aideer.idempotency import Once
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/tasks/<id>/regenerate", **documented("Answer again", errors=(402, 403, 404, 409, 413, 429)))
def regenerate(caller: Unread, id: str, key: IdempotencyKey = None) -> AcceptedTask:
    """Ask again for the chat's last answer. The new answer replaces the old one when it has finished, or was stopped, with text.

    If the new answer fails, the old one stays as it is, and the text of the new one is not kept.
    """
    return asking.regenerate(caller, id, Once(caller.id, "POST /tasks/{id}/regenerate", key, id))
