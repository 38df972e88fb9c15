"""GET /users/me/sessions: the devices on which you are signed in."""

from aideer.accounts import devices
from aideer.schemas.sessions import SessionResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/users/me/sessions", **describe("List one's sessions"))
def list_sessions(user: Visitor) -> list[SessionResponse]:
    """List your sessions, the last used one first. You can have 50: a new one ends the one that was unused for the longest time.

    A session of release 0.1 is listed after its next refresh.
    """
    return devices.list_all(user)
