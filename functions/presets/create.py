"""POST /api/v1/presets: make a preset."""

from aideer.chats import presets
from aideer.schemas.presets import NewPreset, PresetResponse
from aideer.security.callers import Member
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.post("/api/v1/presets", **describe("Make a preset", errors=(403, 409, 429)))
def create(user: Member, body: NewPreset) -> PresetResponse:
    return presets.create(user, body)
