"""GET /users/me/settings: the settings of your front ends."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from aideer.accounts import settings as stored
from aideer.schemas.oneself import Settings
from aideer.security.callers import Visitor
from aideer.web.conditional_requests import SETTINGS_HEADER, IfNoneMatch, respond
from aideer.web.http import app, handler
from aideer.web.openapi import NOT_MODIFIED, describe

__all__ = ["handler"]


@app.get("/api/v1/users/me/settings", **describe("Get one's settings", headers=SETTINGS_HEADER, also=NOT_MODIFIED))
def get_settings(user: Visitor, if_none_match: IfNoneMatch = None) -> Response[Settings]:
    """Return the JSON object that a front end has stored, or an empty one."""
    found, version = stored.read(user, if_none_match)
    body: Any = found
    return respond(body, version)
