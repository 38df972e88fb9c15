"""POST /api/v1/users: sign up."""

from aideer.accounts import users
from aideer.schemas.users import NewUser, UserResponse
from aideer.security.callers import Address
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/users", **describe("Sign up", errors=(400, 403, 429, 503), public=True))
def create(body: NewUser, address: Address) -> UserResponse:
    return users.sign_up(body, address)
