"""DELETE /chats: remove all of one's own chats."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.tasks import mass_deletion
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]

Confirm = Annotated[Literal["all"], Query(description="Required, so that a lost id in a path deletes nothing.")]


@app.delete(
    "/api/v1/chats",
    **describe("Delete all of one's own chats", errors=(429,), also={202: "The rest is deleted in the background."}),
)
def delete_all(user: Visitor, confirm: Confirm) -> Response[DoneResponse]:  # noqa: ARG001 - the type requires it
    """Delete all of your chats, shared ones too. Tasks that are answering in them stop, and you pay for their answers so far.

    Chats that you open after this call stay. The answer is 202 if there are more chats than one call can delete.
    """
    gone = mass_deletion.begin(user)
    status, message = (200, "Deleted.") if gone else (202, "Being deleted.")
    return Response(status_code=status, content_type="application/json", body=DoneResponse(message=message))
