"""PUT /admin/config: change the default preset or the announcement."""

from aws_lambda_powertools.event_handler import Response

from aideer.chats import configuration
from aideer.schemas.config import ConfigChange, StoredConfigResponse
from aideer.security.callers import Admin
from aideer.web.conditional_requests import ETAG_HEADER, IfMatch, respond
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put(
    "/api/v1/admin/config",
    **describe("Change the configuration", errors=(400, 403, 412, 428), headers=ETAG_HEADER),
)
def set_config(user: Admin, change: ConfigChange, if_match: IfMatch = None) -> Response[StoredConfigResponse]:
    """Change the fields that you send. If-Match is required, so that no administrator overwrites another's change.

    GET /config shows the change within 70 seconds. The audit trail records it as `config.change`.
    """
    stored = configuration.change(user, change, if_match)
    return respond(StoredConfigResponse.model_validate(stored), stored.version)
