"""GET /config: what a front end begins with."""

from aws_lambda_powertools.event_handler import Response

from aideer.accounts import public_config
from aideer.schemas.config import ConfigResponse
from aideer.web.conditional_requests import IfNoneMatch, respond_publicly
from aideer.web.http import app, handler
from aideer.web.openapi import NOT_MODIFIED, describe

__all__ = ["handler"]

HEADERS = {
    "ETag": {"description": "Quoted, for If-None-Match.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "How long it may be kept.", "schema": {"type": "string"}},
    "Vary": {"description": "It is compressed if you accept gzip.", "schema": {"type": "string"}},
}


@app.get(
    "/api/v1/config",
    **describe(
        "Ask what a front end begins with",
        errors=(503,),
        public=True,
        headers=HEADERS,
        also=NOT_MODIFIED,
    ),
)
def get(if_none_match: IfNoneMatch = None) -> Response[ConfigResponse]:
    """Return models, limits, ways to sign in, the default preset and the announcement. It is the same for everybody.

    A change by an administrator shows within 70 seconds.
    """
    config = public_config.get()
    return respond_publicly(config, public_config.compute_tag(config), public_config.CACHE_SECONDS, if_none_match)
