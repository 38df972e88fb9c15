"""DELETE /api/v1/presets/{id}: delete a preset. Chats keep the version that they pin."""

from aideer.chats import presets
from aideer.schemas.users import DoneResponse
from aideer.security.callers import Member
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.delete("/api/v1/presets/<id>", **describe("Delete a preset", errors=(403, 404, 503)))
def delete(user: Member, id: str) -> DoneResponse:
    presets.delete(user, id)
    return DoneResponse(message="Deleted.")
