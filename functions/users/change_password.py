"""PUT /api/v1/users/me/password: another password of one's own."""

from aideer import credentials
from aideer.auth import Visitor
from aideer.contract.users import Done, PasswordChange
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.put("/api/v1/users/me/password", **documented("Change one's password", errors=(429,)))
def change_password(user: Visitor, body: PasswordChange) -> Done:
    """Change one's password. It ends all sessions, this one too: sign in with the new one."""
    credentials.change_own(user, body)
    return Done(message="Changed. Sign in with the new password.")
