"""DELETE /api/v1/presets/{id}: delete a preset. Chats keep the version that they pin."""

from aideer import presets
from aideer.auth import Member
from aideer.contract.users import Done
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.delete("/api/v1/presets/<id>", **documented("Delete a preset", errors=(403, 404, 503)))
def delete(user: Member, id: str) -> Done:
    presets.delete(user, id)
    return Done(message="Deleted.")
