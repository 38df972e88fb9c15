"""GET /api/v1/admin/reconciliation: the last reconciliation of all credits, and the one under way."""

from dataclasses import asdict

from aideer.billing import reconciliation
from aideer.core.errors import NotFound
from aideer.schemas.admin import ReconciliationResponse, ReconciliationRun
from aideer.security.callers import Admin
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/admin/reconciliation", **describe("The last reconciliation of all credits", errors=(403, 404)))
def show(user: Admin) -> ReconciliationResponse:  # noqa: ARG001 - its type lets administrators in only
    last, running = reconciliation.read_runs()
    if not last and not running:
        raise NotFound("no_reconciliation", "There has been no reconciliation yet.")
    return ReconciliationResponse(
        last=ReconciliationRun(**asdict(last)) if last else None,
        running=ReconciliationRun(**asdict(running)) if running else None,
    )
