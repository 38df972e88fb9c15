"""DELETE /users/me/sessions: sign out on all devices, or on all others."""

from aideer.accounts import devices, sessions
from aideer.schemas.sessions import Others
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/users/me/sessions", **describe("End one's sessions", errors=(409,)))
def end_sessions(user: Visitor, others: Others = False) -> DoneResponse:
    """End all your sessions, as DELETE /session does, or with `others=true` all but the one of this request."""
    if others:
        devices.end_others(user)
    else:
        sessions.sign_out(user)
    return DoneResponse(message="Signed out.")
