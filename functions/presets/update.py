"""PUT /api/v1/presets/{id}: make a preset's next version."""

from aideer.chats import presets
from aideer.schemas.presets import PresetChange, PresetResponse
from aideer.security.callers import Member
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put("/api/v1/presets/<id>", **describe("Change a preset", errors=(403, 404, 429, 503)))
def update(user: Member, id: str, body: PresetChange) -> PresetResponse:
    return presets.update(user, id, body)
