"""GET /api/v1/admin/feedback: the answers that users have rated."""

from typing import Annotated

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Query

from aideer.chats import feedback_list
from aideer.schemas.feedback import RatedAnswerResponse, Rating
from aideer.security.callers import Admin
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]


@app.get("/api/v1/admin/feedback", **describe("List what was rated", errors=(403,), headers=PAGE_HEADERS))
def show(
    admin: Admin,
    rating: Annotated[Rating | None, Query(description="Only these ratings.")] = None,
    model: Annotated[str | None, Query(min_length=1, max_length=100, description="Only answers of this model.")] = None,
    preset_id: Annotated[
        str | None, Query(min_length=1, max_length=64, description="Only answers in chats with this preset.")
    ] = None,
    limit: pagination.Limit = 10,
    cursor: pagination.Cursor = None,
) -> Response[list[RatedAnswerResponse]]:
    """List the rated answers, the last change first, with tags and comments. The audit trail records each look.

    A page may be shorter than `limit` even if more answers follow, so check X-Next-Cursor. Feedback vanishes with its answer. The
    counts of GET /admin/stats stay.
    """
    name = f"feedback {rating} {model} {preset_id}"
    [before] = pagination.decode(name, cursor, (str,)) if cursor else [None]
    page = feedback_list.read_page(admin, rating, model, preset_id, limit, before)
    return pagination.respond(page.answers, pagination.encode(name, [page.more]) if page.more else None)
