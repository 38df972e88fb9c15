"""Uploads: multipart/form-data (RFC 7578), read by python-multipart."""

import logging
from typing import Any

from aws_lambda_powertools.event_handler.openapi.params import UploadFile
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, create_form_parser

logging.getLogger("python_multipart").disabled = True  # it quotes the upload
logging.getLogger("python_multipart.multipart").disabled = True
FIELDS = 100
"""The most fields of a form. Each costs the parser some microseconds, and 6 MB have room for 100,000."""


def parse(content_type: str | None, body: bytes) -> dict[str, list[UploadFile | str]]:
    """Return a form's files and fields by name, in their order. Raises ValueError if the body is not a valid form."""
    found: dict[str, list[UploadFile | str]] = {}
    seen = 0
    ended = False

    def keep(part: File | Field) -> None:
        nonlocal seen
        seen += 1
        if seen > FIELDS:
            raise ValueError
        found.setdefault((part.field_name or b"").decode(errors="replace"), []).append(_value(part))

    def end() -> None:
        nonlocal ended
        ended = True

    try:
        # Keep files in memory, because the whole body is in memory already.
        parser = create_form_parser(
            {"Content-Type": (content_type or "").encode("latin-1")}, keep, keep, {"MAX_MEMORY_FILE_SIZE": float("inf")}
        )
        parser.on_end = end
        parser.write(_without_preamble(body, parser.boundary))
        parser.finalize()
    except FormParserError:
        raise ValueError from None
    if not ended:
        raise ValueError
    return found


def _without_preamble(body: bytes, boundary: Any) -> bytes:
    """Return a body from its first boundary on. RFC 2046, section 5.1.1, allows text before it, but the parser does not."""
    delimiter = b"--" + bytes(boundary or b"")
    at = 0 if body.startswith(delimiter) else body.find(b"\r\n" + delimiter)
    return body[max(at, 0) :]


def _value(part: File | Field) -> UploadFile | str:
    if isinstance(part, Field):
        return (part.value or b"").decode(errors="replace")
    part.file_object.seek(0)
    return UploadFile(content=part.file_object.read(), filename=None, content_type=part.content_type)
