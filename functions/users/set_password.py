"""PUT /api/v1/users/{id}/password: set a user's password, as an administrator."""

from aideer.accounts import freshness, password_changes
from aideer.schemas.users import DoneResponse, NewPassword, UserId
from aideer.security.callers import Admin, AuthTime
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put("/api/v1/users/<id>/password", **describe("Give a user a password", errors=(400, 403, 404, 429)))
def set_password(admin: Admin, auth_time: AuthTime, id: UserId, body: NewPassword) -> DoneResponse:
    """Set a user's password, as an administrator. This ends all sessions of that user.

    You need a sign-in within ten minutes, or you send your own password. Without both, the answer is 403 `fresh_sign_in_required`.
    """
    freshness.require(admin, auth_time, body.current_password)
    password_changes.set_for_user(admin, id, body)
    return DoneResponse(message="Changed.")
