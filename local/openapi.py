"""Makes functions/docs/openapi.json of all handlers: `make docs`. With --check it only says whether that file is up to date.

It must be a process of its own: the resolver knows the routes of whatever has been imported.
"""

import json
import os
import sys
import warnings
from typing import Any

from local.template import ROOT, Template

DOCUMENT = ROOT / "functions" / "docs" / "openapi.json"

_DESCRIPTION = """The backend of an AI chat product: sign in, pick a preset, chat, watch the answer arrive, pay for it with credits.

Errors are `{"detail": …, "code": "stable_snake_case"}`. Times are ISO 8601 in UTC. Lists take `limit`, `cursor` or `offset`, and
say how to go on in `Link` and `X-Next-Cursor`. `Idempotency-Key` makes the repetition of a POST harmless for 24 hours."""

_SCHEMAS: dict[str, Any] = {
    "Error": {
        "title": "Error",
        "type": "object",
        "required": ["detail", "code"],
        "properties": {
            "detail": {"type": "string", "description": "For people."},
            "code": {"type": "string", "description": "For programs: stable, in snake_case."},
        },
    },
    "InvalidRequest": {
        "title": "InvalidRequest",
        "type": "object",
        "required": ["detail", "code"],
        "properties": {
            "code": {"type": "string", "const": "validation_error"},
            "detail": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["loc", "msg", "type"],
                    "properties": {
                        "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
                        "msg": {"type": "string"},
                        "type": {"type": "string"},
                    },
                },
            },
        },
    },
}

_SECURITY_SCHEMES = {
    "bearerAuth": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access_token of POST /api/v1/session/oauth2/token.",
    }
}


def _error(status: int, description: str) -> dict[int, Any]:
    return {
        status: {
            "description": description,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    }


# The one route that is no Powertools handler: tasks/stream.py is an ASGI app.
_STREAM: dict[str, Any] = {
    "/api/v1/tasks/{id}/stream": {
        "get": {
            "summary": "Watch a task's answer arrive",
            "description": "`event: open`, then unnamed events `id: <position>` with `data: "
            '{"status":"running","content":"<new text>"}` ("reasoning" in its place for thinking), one last data event '
            "`id: end` with the whole answer, its usage and credits, and `event: close`. A comment line every 15 s of silence. "
            "It resumes at exactly the position of `Last-Event-ID` or `after`.",
            "operationId": "stream_tasks_get",
            "security": [{"bearerAuth": []}, {}],
            "parameters": [
                {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
                {
                    "name": "ticket",
                    "in": "query",
                    "schema": {"type": "string"},
                    "description": "As in stream_url, in place of a token: for EventSource, which sends no headers.",
                },
                {
                    "name": "after",
                    "in": "query",
                    "schema": {"type": "string"},
                    "description": "A position: wins over Last-Event-ID.",
                },
                {
                    "name": "Last-Event-ID",
                    "in": "header",
                    "schema": {"type": "string"},
                    "description": "The last position that was received.",
                },
            ],
            "responses": {
                200: {"description": "The stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
                204: {"description": "All of it was received before."},
                **_error(400, "Another kind of token."),
                **_error(401, "No or a bad token."),
                **_error(404, "No such task of this user."),
                **_error(422, "No position, or a second stream from the start."),
            },
        }
    }
}


def document() -> str:
    """The document, as the handlers in functions/ say it. Imports them all."""
    _stand_in_environment()
    warnings.simplefilter(
        "error"
    )  # a handler that fails to import, or a name that is used twice, would only be a warning
    from aws_lambda_powertools.event_handler.openapi import OpenAPIMerge
    from aws_lambda_powertools.event_handler.openapi.models import Server

    from aideer import __version__

    merge = OpenAPIMerge(
        title="AIDeer",
        version=__version__,
        description=_DESCRIPTION,
        servers=[Server(url="/")],
        security_schemes=_SECURITY_SCHEMES,  # type: ignore[arg-type] # it takes models, and writes out only plain data
        on_conflict="error",
    )
    merge.discover(ROOT / "functions", pattern="http.py", recursive=True)
    _declare_security()
    merge.add_schema({"paths": _STREAM, "components": {"schemas": _SCHEMAS}})
    merged = json.loads(merge.get_openapi_json_schema())
    for path, operations in merged["paths"].items():
        for operation in operations.values():
            _mend(path, operation)
    for unused in ("HTTPValidationError", "ResponseValidationError", "ValidationError"):
        del merged["components"]["schemas"][unused]
    merged["paths"] = dict(sorted(merged["paths"].items()))
    merged["components"]["schemas"] = dict(sorted(merged["components"]["schemas"].items()))
    return json.dumps(merged, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the document, or with --check compare it."""
    made = document()
    if arguments == ["--check"]:
        if DOCUMENT.read_text(encoding="utf-8") != made:
            print(f"{DOCUMENT.relative_to(ROOT)} is out of date: make docs", file=sys.stderr)
            return 1
        return 0
    DOCUMENT.write_text(made, encoding="utf-8")
    return 0


def _stand_in_environment() -> None:
    """Importing handlers reads their environment, and calls nothing: any value does."""
    if not DOCUMENT.exists():
        DOCUMENT.write_text("{}", encoding="utf-8")
    for name, value in next(iter(Template().functions.values())).variables.items():
        os.environ.setdefault(name, value if isinstance(value, str) else "0")
    functions = str(ROOT / "functions")
    if functions not in sys.path:
        sys.path.insert(0, functions)


def _declare_security() -> None:
    from aws_lambda_powertools.event_handler.openapi.models import HTTPBearer

    from aideer.http import app

    app.configure_openapi(security_schemes={"bearerAuth": HTTPBearer(bearerFormat="JWT")})


def _mend(path: str, operation: dict[str, Any]) -> None:
    operation["tags"] = [_tag(path)]
    answers = operation["responses"]
    answers.pop("500", None)  # a bug is no promise
    if "parameters" not in operation and "requestBody" not in operation:
        del answers["422"]  # nothing is sent that could be wrong
    operation["responses"] = dict(sorted(answers.items()))


def _tag(path: str) -> str:
    resource = path.removeprefix("/api/v1").split("/")[1]
    if "credits" in path:
        return "credits"
    return "docs" if resource in ("openapi.json", "docs") else resource


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
