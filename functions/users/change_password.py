"""PUT /api/v1/users/me/password: change your own password."""

from aideer.accounts import password_changes
from aideer.schemas.users import DoneResponse, PasswordChange
from aideer.security.callers import AuthTime, Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put("/api/v1/users/me/password", **describe("Change one's password", errors=(400, 403, 429)))
def change_password(user: Visitor, auth_time: AuthTime, body: PasswordChange) -> DoneResponse:
    """Change your password. This ends all your sessions, also this one, so sign in with the new password.

    To set a first password, you need a sign-in within ten minutes. Without it, the answer is 403 `fresh_sign_in_required`.
    """
    password_changes.change_own(user, body, auth_time)
    return DoneResponse(message="Changed. Sign in with the new password.")
