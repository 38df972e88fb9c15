"""GET /users/me/likes: what one likes."""

from aideer import likes as domain
from aideer.auth import Visitor
from aideer.contract.users import Likes
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.get("/api/v1/users/me/likes", **documented("List what one likes"))
def likes(user: Visitor) -> Likes:
    """Name the presets and chats that one likes, the newest first."""
    return domain.all_of(user)
