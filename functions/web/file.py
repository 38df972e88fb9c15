"""GET /, /admin, /s/{token} and /web/{path+}: the web client's pages and their files.

This handler does not use the resolver of the API: the files are no part of the API's document, and a process starts faster.
"""

from pathlib import Path
from typing import Any

from aideer.core import texts
from aideer.core.errors import Forbidden, NotFound
from aideer.core.warmth import answers_pings, at_start
from aideer.web import origin, site
from aideer.web.answers import refuse, without_body

FOLDER = Path(__file__).parent


@at_start
def load() -> site.Site:
    """Return the site. In a source tree it is made of the sources, and made again after an edit."""
    return site.load(FOLDER)


@answers_pings
def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer a request for a file (Lambda's entry)."""
    headers = {name.lower(): value for name, value in event["headers"].items()}
    texts.accept_language.set(headers.get("accept-language"))
    try:
        origin.require_domain(headers)
    except Forbidden as error:
        return refuse(error)
    answer = site.respond(load(), event["rawPath"], headers)
    if answer is None:
        answer = refuse(NotFound("not_found", "This address does not exist."))
    return without_body(answer) if event["requestContext"]["http"]["method"] == "HEAD" else answer
