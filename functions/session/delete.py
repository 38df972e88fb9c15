"""DELETE /api/v1/session: sign out everywhere."""

from aideer.accounts import sessions
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/session", **describe("Sign out everywhere"))
def delete(user: Visitor) -> DoneResponse:
    sessions.sign_out(user)
    return DoneResponse(message="Signed out.")
