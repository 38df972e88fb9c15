"""OpenAPI descriptions of an endpoint's responses, and the headers of every response. Plain data adds no time to a cold start.

local/docs/openapi.py adds the schemas that are named here to the document.
"""

from http import HTTPStatus
from typing import Any

_INVALID = {
    "application/json": {
        "schema": {
            "anyOf": [
                {"$ref": "#/components/schemas/InvalidRequest"},
                {"$ref": "#/components/schemas/Error"},
            ]
        }
    }
}


def describe(
    summary: str,
    *,
    errors: tuple[int, ...] = (),
    public: bool = False,
    content: dict[str, Any] | None = None,
    headers: dict[str, Any] | None = None,
    also: dict[int, str] | None = None,
    done: bool = True,
    error: str = "Error",
) -> dict[str, Any]:
    """Return the keyword arguments for `@app.get(path, **describe("Get a chat", errors=(403, 404)))`.

    Parameters
    ----------
    errors
        The statuses of its errors. 422 is always added; 401 (of the token) and 503 are added unless it is public.
    public
        Whether the endpoint takes no access token.
    content
        The body of a 200 by media type, if it differs from the return annotation.
    headers
        OpenAPI's description of a 200's headers.
    also
        Statuses besides 200 that are not errors, with their meanings.
    done
        Whether the endpoint answers 200 at all. A redirection does not.
    error
        The schema of its errors.
    """
    refusal = {"application/json": {"schema": {"$ref": f"#/components/schemas/{error}"}}}
    answer: dict[str, Any] = {"description": "Done."}
    if content:
        answer["content"] = content
    if headers:
        answer["headers"] = headers
    responses: dict[int, Any] = {200: answer} if done else {}
    for status, meaning in (also or {}).items():
        responses[status] = {"description": meaning}
    for status in sorted({*errors, *(() if public else (401, 503))}):
        responses[status] = {"description": HTTPStatus(status).phrase, "content": refusal}
    # Always set 422. Otherwise Powertools would add its own schema, which lacks `code`.
    responses[422] = {"description": "The request is not valid.", "content": _INVALID}
    return {"summary": summary, "responses": responses, "security": None if public else [{"bearerAuth": []}]}


NOT_MODIFIED = {304: "The version that If-None-Match names is the current one."}
"""For `describe(also=NOT_MODIFIED)`."""
ASSET_ANSWERS: dict[str, Any] = {
    "errors": (404,),
    "headers": {"ETag": {"description": "Quoted, for If-None-Match.", "schema": {"type": "string"}}},
    "also": NOT_MODIFIED,
}
"""Arguments of `describe` for a large constant text (assets.py)."""

USUAL_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-store"}
"""Headers of every response that does not set them itself."""


def add_usual_headers(headers: dict[str, Any]) -> dict[str, Any]:
    """Return a response's headers with the usual ones added.

    A browser must not guess another type than the named one. A response is private and not stored, unless its handler sets
    Cache-Control.
    """
    named = {name.lower() for name in headers}
    return {**headers, **{name: value for name, value in USUAL_HEADERS.items() if name.lower() not in named}}


NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Headers of a response that holds tokens (RFC 6749, section 5.1)."""
PAGE_HEADERS = {
    "Link": {"description": 'The next page: <…>; rel="next" (RFC 8288).', "schema": {"type": "string"}},
    "X-Next-Cursor": {"description": "`cursor` of the next page.", "schema": {"type": "string"}},
}
"""Headers of every list: `**describe("List the chats", headers=PAGE_HEADERS)`."""
