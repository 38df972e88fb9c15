"""DELETE /api/v1/users/{id}: remove a user and everything that is theirs."""

from aideer import deletion, users
from aideer.auth import Visitor
from aideer.contract.users import Done, NamedUser
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.delete("/api/v1/users/<id>", **documented("Delete a user", errors=(403, 404, 409)))
def delete(user: Visitor, id: NamedUser) -> Done:
    """Delete oneself, or, as an administrator, anybody. Nobody can sign in as them any more; what is theirs goes within minutes."""
    deletion.delete(user, users.target_id(user, id))
    return Done(message="Deleted.")
