"""GET /users/{id}/keys: the API keys of a user."""

from aideer.accounts import api_keys
from aideer.schemas.api_keys import ApiKeyResponse
from aideer.schemas.users import NamedUser
from aideer.security.callers import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/users/<id>/keys", **describe("List a user's API keys", errors=(403, 404)))
def keys(user: Visitor, id: NamedUser) -> list[ApiKeyResponse]:
    """List your API keys, newest first, without the keys themselves. Administrators can list the keys of any user."""
    return api_keys.list_all(user, id)
