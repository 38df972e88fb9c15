"""POST /api/v1/presets: make a preset."""

from aideer import presets
from aideer.auth import Member
from aideer.contract.presets import NewPreset, Preset
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.post("/api/v1/presets", **documented("Make a preset", errors=(403, 409)))
def create(user: Member, body: NewPreset) -> Preset:
    return presets.create(user, body)
