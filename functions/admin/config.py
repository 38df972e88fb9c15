"""GET /admin/config: the configuration as administrators have set it."""

from aws_lambda_powertools.event_handler import Response

from aideer.chats import configuration
from aideer.schemas.config import StoredConfigResponse
from aideer.security.callers import Admin
from aideer.web.conditional_requests import ETAG_HEADER, respond
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.get("/api/v1/admin/config", **describe("Get the configuration", errors=(403,), headers=ETAG_HEADER))
def config(user: Admin) -> Response[StoredConfigResponse]:  # noqa: ARG001 - its type lets administrators in only
    """Return the default preset and the announcement as they are stored, with the ETag for a change."""
    stored = configuration.read()
    return respond(StoredConfigResponse.model_validate(stored), stored.version)
