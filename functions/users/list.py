"""GET /api/v1/users: all users, for administrators."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.accounts import user_search, users
from aideer.schemas.users import UserResponse
from aideer.security import audit_trail
from aideer.security.callers import Admin
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]

Name = Annotated[str | None, Query(max_length=255, description="Only the user of this name, in any of its spellings.")]
Text = Annotated[
    str | None,
    Query(
        max_length=50,
        description="The user of this name in any of its spellings, and users whose names begin with it in capital or small "
        "letters; ordered by name. Not with `offset`.",
    ),
]


@app.get("/api/v1/users", **describe("List users", errors=(403,), headers=PAGE_HEADERS))
def list_(
    admin: Admin,
    username: Name = None,
    q: Text = None,
    limit: pagination.Limit = 10,
    cursor: pagination.Cursor = None,
    offset: pagination.Offset = 0,
) -> Response[list[UserResponse]]:
    """List users, newest first. A page may be shorter than `limit` even if more users follow, so check X-Next-Cursor."""
    if username is not None:
        found, more = users.find_by_name(username), None
    elif q is not None:
        found, more = user_search.search(q, limit, cursor, offset)
    else:
        found, more = users.list_page(limit, cursor, offset)
    audit_trail.record(admin, "users.list", found[0].id if username is not None and found else None)
    return pagination.respond(found, more)
