"""What the OpenAPI document says of an endpoint besides its types. Plain data: nothing here costs a cold start anything.

The schemas named here are added to the document where it is made (local/openapi.py).
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


def documented(
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
    """The keyword arguments of `@app.get(path, **documented("Get a chat", errors=(403, 404)))`.

    Parameters
    ----------
    errors
        The statuses with which it refuses; 401 (of the token), 422 and 503 are added where they belong.
    public
        Whether it takes no access token.
    content
        What a 200 holds, by media type, where that is not what the return annotation says.
    headers
        OpenAPI's description of a 200's headers.
    also
        Answers besides 200 that are no refusals, with what they mean.
    done
        Whether it answers 200 at all: a redirection does not.
    error
        The schema of its refusals.
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
    # Named here in any case: Powertools would put its own schema in its place, which lacks `code`.
    responses[422] = {"description": "The request is not valid.", "content": _INVALID}
    return {"summary": summary, "responses": responses, "security": None if public else [{"bearerAuth": []}]}


USUAL_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-store"}
"""Of every answer that does not set them itself."""


def secured(headers: dict[str, Any]) -> dict[str, Any]:
    """Return an answer's headers with the usual ones.

    A browser may not guess another type than the named one. An answer is private and not stored, unless its handler sets a
    Cache-Control.
    """
    named = {name.lower() for name in headers}
    return {**headers, **{name: value for name, value in USUAL_HEADERS.items() if name.lower() not in named}}


NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Headers of an answer that holds tokens (RFC 6749, section 5.1)."""
PAGE_HEADERS = {
    "Link": {"description": 'The next page: <…>; rel="next" (RFC 8288).', "schema": {"type": "string"}},
    "X-Next-Cursor": {"description": "`cursor` of the next page.", "schema": {"type": "string"}},
}
"""Of every list: `**documented("List the chats", headers=PAGE_HEADERS)`."""
