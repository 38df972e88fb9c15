"""PUT /api/v1/users/me/password: change your own password."""

from aideer import credentials
from aideer.auth import AuthTime, Visitor
from aideer.contract.users import Done, PasswordChange
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.put("/api/v1/users/me/password", **documented("Change one's password", errors=(400, 403, 429)))
def change_password(user: Visitor, auth_time: AuthTime, body: PasswordChange) -> Done:
    """Change your password. This ends all your sessions, also this one, so sign in with the new password.

    To set a first password, you need a sign-in within ten minutes. Without it, the answer is 403 `fresh_sign_in_required`.
    """
    credentials.change_own(user, body, auth_time)
    return Done(message="Changed. Sign in with the new password.")
