"""PUT /api/v1/users/{id}/password: give a user a password."""

from aideer import credentials
from aideer.auth import Admin
from aideer.contract.users import Done, NewPassword, UserId
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.put("/api/v1/users/<id>/password", **documented("Give a user a password", errors=(403, 404)))
def set_password(admin: Admin, id: UserId, body: NewPassword) -> Done:
    """Give a user a password, as an administrator. It ends all of their sessions."""
    credentials.give(admin, id, body)
    return Done(message="Changed.")
