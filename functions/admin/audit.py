"""GET /api/v1/admin/audit: the actions of administrators on data of other users, and on public data."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.schemas.admin import AuditEntryResponse
from aideer.security import audit_trail
from aideer.security.callers import Admin
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]


@app.get("/api/v1/admin/audit", **describe("List what administrators did", errors=(403,), headers=PAGE_HEADERS))
def show(
    _: Admin,
    admin: Annotated[
        str | None, Query(min_length=1, max_length=64, description="The id of the administrator that did it.")
    ] = None,
    user: Annotated[
        str | None, Query(min_length=1, max_length=64, description="The id of the user that it belonged to.")
    ] = None,
    action: Annotated[audit_trail.Action | None, Query(description="The action.")] = None,
    limit: pagination.Limit = 10,
    cursor: pagination.Cursor = None,
) -> Response[list[AuditEntryResponse]]:
    """List the records, newest first. A page may be shorter than `limit` even if more records follow, so check X-Next-Cursor.

    `reason` is the text that the administrator sent in the header X-Reason, which may be percent-encoded.
    """
    name = f"audit {admin} {user} {action}"
    [before] = pagination.decode(name, cursor, (str,)) if cursor else [None]
    page = audit_trail.read_page(admin, user, action, limit, before)
    more = pagination.encode(name, [page.more]) if page.more else None
    return pagination.respond([AuditEntryResponse.model_validate(record) for record in page.records], more)
