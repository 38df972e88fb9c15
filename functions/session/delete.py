"""DELETE /api/v1/session: sign out everywhere."""

from aideer import sessions
from aideer.auth import Visitor
from aideer.contract.users import Done
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.delete("/api/v1/session", **documented("Sign out everywhere"))
def delete(user: Visitor) -> Done:
    sessions.sign_out(user)
    return Done(message="Signed out.")
