"""DELETE /api/v1/session: sign out everywhere."""

from aideer.accounts import sessions
from aideer.schemas.users import Done
from aideer.security.auth import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/session", **describe("Sign out everywhere"))
def delete(user: Visitor) -> Done:
    sessions.sign_out(user)
    return Done(message="Signed out.")
