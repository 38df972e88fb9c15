"""POST /api/v1/users: sign up."""

from aideer import users
from aideer.contract.users import NewUser, User
from aideer.http import app, handler
from aideer.responses import documented
from aideer.throttling import Address

__all__ = ["handler"]


@app.post("/api/v1/users", **documented("Sign up", errors=(400, 403, 429, 503), public=True))
def create(body: NewUser, address: Address) -> User:
    return users.sign_up(body, address)
