"""GET /api/v1/health: whether the API answers, and which version it is."""

from aideer import __version__
from aideer.schemas.health import HealthResponse
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/health", **describe("Ask whether it is up", public=True))
def get() -> HealthResponse:
    return HealthResponse(status="ok", version=__version__)
