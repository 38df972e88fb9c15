"""GET /api/v1/presets/{id}: one preset."""

from aideer import presets
from aideer.auth import Visitor
from aideer.contract.presets import Preset
from aideer.http import app, handler
from aideer.responses import documented

__all__ = ["handler"]


@app.get("/api/v1/presets/<id>", **documented("Get a preset", errors=(403, 404)))
def get(user: Visitor, id: str) -> Preset:
    return presets.get(user, id)
