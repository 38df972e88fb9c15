"""DELETE /users/me/sessions/{id}: sign out on one device."""

from aideer.accounts import devices
from aideer.schemas.sessions import SessionId
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/users/me/sessions/<id>", **describe("End one of one's sessions", errors=(404, 409)))
def end_session(user: Visitor, id: SessionId) -> DoneResponse:
    """End a session: `current` or its id. Its tokens are refused at once, and its open streams end within 5 seconds."""
    devices.end(user, id)
    return DoneResponse(message="Signed out there.")
