"""GET /api/v1/presets/{id}: one preset."""

from aideer.chats import presets
from aideer.schemas.presets import PresetResponse
from aideer.security.auth import Visitor
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/presets/<id>", **describe("Get a preset", errors=(403, 404)))
def get(user: Visitor, id: str) -> PresetResponse:
    return presets.get(user, id)
