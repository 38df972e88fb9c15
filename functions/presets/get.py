"""GET /api/v1/presets/{id}: one preset."""

from aideer.chats import presets
from aideer.schemas.presets import PresetResponse
from aideer.security.readers import Reader
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/presets/<id>", **describe("Get a preset", errors=(403, 404, 429)))
def get(user: Reader, id: str) -> PresetResponse:
    return presets.get(user, id)
