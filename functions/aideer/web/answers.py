"""Answers as Lambda returns them to API Gateway, for handlers with and without the resolver."""

import base64
import json
from typing import Any

from aideer.core.errors import AideerError
from aideer.web.openapi import add_usual_headers

_BODILESS = (204, 304)


def refuse(error: AideerError) -> dict[str, Any]:
    """Return the response that tells a caller this error."""
    headers = add_usual_headers({"Content-Type": "application/json", **error.answer_headers()})
    body = json.dumps(error.body(), separators=(",", ":"), ensure_ascii=False)
    return {"statusCode": error.status, "headers": headers, "body": body, "isBase64Encoded": False}


def without_body(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the response to a HEAD (RFC 9110, section 9.3.2): the headers of GET, including its length."""
    body = answer.get("body") or ""
    length = len(base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode())
    headers = (
        answer["headers"] if answer["statusCode"] in _BODILESS else {**answer["headers"], "Content-Length": str(length)}
    )
    return {**answer, "headers": headers, "body": "", "isBase64Encoded": False}
