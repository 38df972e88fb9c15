"""PUT /users/me/settings: replace the settings of your front ends."""

from aws_lambda_powertools.event_handler import Response

from aideer.accounts import settings as stored
from aideer.schemas.oneself import Settings
from aideer.security.callers import Visitor
from aideer.web.conditional_requests import SETTINGS_HEADER, IfMatch, respond
from aideer.web.http import app, handler
from aideer.web.openapi import describe

__all__ = ["handler"]


@app.put(
    "/api/v1/users/me/settings", **describe("Replace one's settings", errors=(412, 413, 429), headers=SETTINGS_HEADER)
)
def set_settings(user: Visitor, body: Settings, if_match: IfMatch = None) -> Response[Settings]:
    """Store any JSON object of at most 16 KB and return it. AIDeer does not read it.

    With If-Match, the settings are replaced only if they are still the version that you have read. Objects and arrays may be at
    most 16 deep. Whole numbers have at most 53 bits. Objects of more than 32 keys have at most 200 keys together.
    """
    return respond(body, stored.replace(user, body.root, if_match))
