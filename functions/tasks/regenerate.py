"""POST /tasks/{id}/regenerate: another answer to the same question."""

from aideer.data.idempotency import IdempotentRequest
from aideer.schemas.headers import IdempotencyKey
from aideer.schemas.tasks import AcceptedTaskResponse
from aideer.security.callers import Unread
from aideer.tasks import admission
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/tasks/<id>/regenerate", **describe("Answer again", errors=(402, 403, 404, 409, 413, 429)))
def regenerate(caller: Unread, id: str, key: IdempotencyKey = None) -> AcceptedTaskResponse:
    """Ask again for the chat's last answer. The new answer replaces the old one when it has finished, or was stopped, with text.

    If the new answer fails, the old one stays as it is, and the text of the new one is not kept.
    """
    return admission.regenerate(caller, id, IdempotentRequest(caller.id, "POST /tasks/{id}/regenerate", key, id))
