"""GET /uploads: one's own uploads."""

from aws_lambda_powertools.event_handler import Response

from aideer.schemas.uploads import UploadResponse
from aideer.security.readers import Reader
from aideer.uploads import uploads
from aideer.web import pagination
from aideer.web.http import app, handler
from aideer.web.openapi import PAGE_HEADERS, describe

__all__ = ["handler"]


@app.get("/api/v1/uploads", **describe("List one's own uploads", errors=(429,), headers=PAGE_HEADERS))
def list_(
    user: Reader,
    limit: pagination.Limit = 10,
    cursor: pagination.Cursor = None,
    offset: pagination.Offset = 0,
) -> Response[list[UploadResponse]]:
    """List your uploads, the newest first, with addresses of ready images.

    A page may be shorter than `limit` even if more uploads follow, so check X-Next-Cursor.
    """
    found, next_cursor = uploads.list_page(user, limit=limit, cursor=cursor, offset=offset)
    return pagination.respond([uploads.to_response(upload) for upload in found], next_cursor)
