"""ETags of responses, and the conditions that a caller sets with them (RFC 9110, section 13.1).

A tag names one version as one kind of reader sees it. So a tag from one reader never confirms the cached copy of another kind of
reader. If the reader may change the resource, the tag is the version alone. If-Match takes only this tag.
"""


class NotModified(Exception):
    """The caller has the current version already. The response is 304, with the headers that 200 would have."""

    def __init__(self, tag: int | str, headers: dict[str, str | list[str]] | None = None) -> None:
        self.headers = headers or tag_headers(tag)


def tag_headers(tag: int | str) -> dict[str, str | list[str]]:
    """Return the headers of a response with this tag. The response depends on the caller, so no shared cache may keep it."""
    return {"ETag": f'"{tag}"', "Cache-Control": "private, no-cache", "Vary": "Authorization"}


def public_headers(tag: str, seconds: int) -> dict[str, str | list[str]]:
    """Return the headers of a response that is the same for all callers, and that any cache may keep for so many seconds.

    API Gateway answers with the caller's own origin (CORS), so a cache keeps a copy for each.
    """
    return {"ETag": f'"{tag}"', "Cache-Control": f"public, max-age={seconds}", "Vary": "Origin"}


def matches(header: str, tag: int | str) -> bool:
    """Return whether an If-Match or If-None-Match header names this tag. Quotes and weakness do not matter here."""
    named = [name.strip().removeprefix("W/").strip('"') for name in header.split(",")]
    return "*" in named or str(tag) in named


def require_modified(
    if_none_match: str | None, tag: int | str, headers: dict[str, str | list[str]] | None = None
) -> None:
    """Raise NotModified if an If-None-Match header names this tag. `headers` are those of the 200, if not `tag_headers`."""
    if if_none_match is not None and matches(if_none_match, tag):
        raise NotModified(tag, headers)
