"""Make functions/docs/openapi.json of all handlers: `make docs`. With --check, only report whether that file is up to date.

Run it as its own process, because the resolver knows the routes of every imported module. Types, limits and answers come from the
handlers. The examples are in local/docs/examples.yaml, by the operation's id, which is the handler's module: chats_create.
"""

import copy
import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from local.docs import openapi_details, streams
from local.stack.template import ROOT, Template

DOCUMENT = ROOT / "functions" / "docs" / "openapi.json"
EXAMPLES = Path(__file__).with_name("examples.yaml")

_DESCRIPTION = """The backend of an AI chat product: sign in, pick a preset, chat, watch the answer arrive, pay for it with credits.

Errors are `{"detail": …, "code": "stable_snake_case"}`. `detail` is English, or Chinese if `Accept-Language` prefers it, and
`Content-Language` says which. So are the reasons of failed tasks. `code` is the same in both. Times are ISO 8601 in UTC. Lists take
`limit`, `cursor` or `offset`, and say how to go on in `Link` and `X-Next-Cursor`. `Idempotency-Key` makes the repetition of a POST
harmless for 24 hours."""

_DETAILS: dict[str, Any] = {
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
}
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
    "OAuthError": {
        "title": "OAuthError",
        "type": "object",
        "required": ["error", "error_description", "detail", "code"],
        "properties": {
            "error": {
                "enum": [
                    "invalid_grant",
                    "invalid_request",
                    "server_error",
                    "temporarily_unavailable",
                    "unsupported_grant_type",
                ],
                "description": "For OAuth2 clients (RFC 6749, section 5.2).",
            },
            "error_description": {"type": "string", "description": "For the developers of such clients, in ASCII."},
            "detail": {
                "anyOf": [{"type": "string"}, _DETAILS],
                "description": "For people; a list where the form is not as described.",
            },
            "code": {"type": "string", "description": "For programs: stable, in snake_case."},
        },
    },
    "InvalidRequest": {
        "title": "InvalidRequest",
        "type": "object",
        "required": ["detail", "code"],
        "properties": {
            "code": {"type": "string", "const": "validation_error"},
            "detail": _DETAILS,
        },
    },
}

_SECURITY_SCHEMES = {
    "bearerAuth": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access_token of any way of signing in.",
    },
    "password": {
        "type": "oauth2",
        "description": "The same access token, for clients that sign in by themselves.",
        "flows": {
            "password": {
                "tokenUrl": "/api/v1/session/oauth2/token",
                "refreshUrl": "/api/v1/session/oauth2/token",
                "scopes": {},
            }
        },
    },
    "refreshToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The refresh_token, in the access token's place.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "The ticket of a stream_url: for this stream alone.",
    },
}
_SIGNED_IN: list[dict[str, list[str]]] = [{"bearerAuth": []}, {"password": []}]
_SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "session_refresh": [{"refreshToken": []}, {}],  # or a ticket in its body
    "session_wechat_refresh": [{"refreshToken": []}],
    "tasks_ask": _SIGNED_IN,
    "tasks_stream": [*_SIGNED_IN, {"ticket": []}],
    "tasks_poll": [*_SIGNED_IN, {"ticket": []}],
    "ui_ask": _SIGNED_IN,
    "ui_resume": _SIGNED_IN,
    "ui_stop": _SIGNED_IN,
}
"""Operations that take another credential than an access token."""

_OAUTH = {"session_create"}
"""Operations with the refusals of RFC 6749, section 5.2: a bad form is 400 there."""

_TAGS = {
    "config": "The things that a front end begins with.",
    "session": "Signing in, going on, and signing out.",
    "users": "Oneself, and others as far as one may see them.",
    "avatars": "Users' pictures.",
    "likes": "Presets and chats that one likes.",
    "credits": "The user's credits, and their ledger.",
    "codes": "Redeem codes. For administrators.",
    "prices": "The prices of the models.",
    "presets": "Prompts with a model and its parameters.",
    "chats": "Conversations, and their messages.",
    "changes": "The changes in one's chats, so that a device can keep a copy.",
    "shared": "Chats, as anybody reads them by a link.",
    "uploads": "Images and documents for messages.",
    "search": "Words in one's own chats.",
    "tasks": "Answers, as they are made.",
    "ui": "Chats in the form of the AI SDK (useChat).",
    "admin": "For administrators only.",
    "health": "Whether it answers.",
    "docs": "This document.",
}
_IDS: dict[str, str | int] = {
    "users": "01980c2f-1a2b-7c3d-8e4f-5a6b7c8d9e0f",
    "presets": "01980c2f-2b3c-7d4e-9f50-6b7c8d9e0f1a",
    "preset": "01980c2f-2b3c-7d4e-9f50-6b7c8d9e0f1a",
    "chats": "01980c2f-3c4d-7e5f-a061-7c8d9e0f1a2b",
    "messages": 1,
    "uploads": "01980c2f-9a1b-7c2d-8e3f-4a5b6c7d8e9f",
    "chat": "01980c2f-3c4d-7e5f-a061-7c8d9e0f1a2b",
    "tasks": "01980c2f-4d5e-7f60-b172-8d9e0f1a2b3c",
    "codes": "DEER7-WXYZ2-MNPQ3-HJKT4",
    "shares": "01980c2f-5e6f-7071-8283-94a5b6c7d8e9",
    "shared": "q1SVs4GZr0nS8eYJ2kPpX5c7uFhLw9aTbMdEoRiKjNg",
}
"""Examples of a path's parameter, by the path segment before it."""
_CHALLENGE = '`Bearer`; with `error="invalid_token"` where a token was sent (RFC 6750).'
_HEADERS = {
    "401": {"WWW-Authenticate": {"description": _CHALLENGE, "schema": {"type": "string"}}},
    "429": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}},
    "503": {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}},
}
"""Headers of refusals, for all operations."""
_EMPTY = ("204", "302", "303", "304")
"""Statuses whose answers have no body."""


class _Loader(yaml.SafeLoader):
    """YAML in which a time is text."""


_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


def document() -> str:
    """Import all handlers in functions/, and return the document that they describe."""
    set_environment()
    warnings.simplefilter("error")  # a failed import of a handler, or a name used twice, would only be a warning
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
    merge.add_schema({"paths": copy.deepcopy(streams.PATHS), "components": {"schemas": _SCHEMAS | streams.schemas()}})
    merged = json.loads(merge.get_openapi_json_schema())
    modules, examples = _modules(), examples_by_operation()
    for path, operations in merged["paths"].items():
        for method, operation in operations.items():
            operation["operationId"] = _operation_id(modules[method.upper(), path], path)
            _mend(path, operation)
            _exemplify(path, operation, examples)
            _name_form(operation, merged["components"]["schemas"])
    openapi_details.add(merged, _OAUTH)
    merged["tags"] = [{"name": name, "description": description} for name, description in _TAGS.items()]
    for unused in ("HTTPValidationError", "ResponseValidationError", "ValidationError"):
        del merged["components"]["schemas"][unused]
    merged["paths"] = dict(sorted(merged["paths"].items()))
    merged["components"]["schemas"] = dict(sorted(merged["components"]["schemas"].items()))
    return json.dumps(merged, indent=1, ensure_ascii=False) + "\n"


def examples_by_operation() -> dict[str, Any]:
    """Return the content of local/docs/examples.yaml."""
    loaded: dict[str, Any] = yaml.load(EXAMPLES.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    return loaded


def main(arguments: list[str]) -> int:
    """Write the document, or compare it with --check."""
    made = document()
    if arguments == ["--check"]:
        if DOCUMENT.read_text(encoding="utf-8") != made:
            print(f"{DOCUMENT.relative_to(ROOT)} is out of date: make docs", file=sys.stderr)
            return 1
        return 0
    DOCUMENT.write_text(made, encoding="utf-8")
    return 0


def set_environment() -> None:
    """Set the environment that handlers read at import. Imports make no calls, so any value works."""
    if not DOCUMENT.exists():
        DOCUMENT.write_text("{}", encoding="utf-8")
    os.environ.setdefault("THROTTLES", "")
    for name, value in next(iter(Template().functions.values())).variables.items():
        os.environ.setdefault(name, value if isinstance(value, str) else "0")
    functions = str(ROOT / "functions")
    if functions not in sys.path:
        sys.path.insert(0, functions)


def _declare_security() -> None:
    from aws_lambda_powertools.event_handler.openapi.models import HTTPBearer

    from aideer.web.http import app

    app.configure_openapi(security_schemes={"bearerAuth": HTTPBearer(bearerFormat="JWT")})


def _modules() -> dict[tuple[str, str], str]:
    """Return the module of each operation's handler, by method and path."""
    from aideer.web.http import app

    found = dict(streams.MODULES)
    for route in [*app._static_routes, *app._dynamic_routes]:
        for method in [route.method] if isinstance(route.method, str) else route.method:
            found[method.upper(), re.sub(r"<(\w+)>", r"{\1}", route.path)] = _module(route.func)
    return found


def _module(handler: Callable[..., Any]) -> str:
    """Return chats.create for functions/chats/create.py. Discovered files are imported under other names."""
    return ".".join(Path(handler.__code__.co_filename).relative_to(ROOT / "functions").with_suffix("").parts)


def _operation_id(module: str, path: str) -> str:
    """Return a name that client generators can use for a function."""
    return module.replace(".", "_") + ("" if path.startswith("/api/v1/") else "_at_root")


def _mend(path: str, operation: dict[str, Any]) -> None:
    operation["tags"] = [_tag(path)]
    if (name := operation["operationId"]) in _SECURITY or operation.get("security"):
        operation["security"] = _SECURITY.get(name, _SIGNED_IN)
    answers = operation["responses"]
    answers.pop("500", None)  # the document does not promise bugs
    if "requestBody" in operation:
        schema = "OAuthError" if name in _OAUTH else "Error"
        answers["415"] = streams.error(415, HTTPStatus(415).phrase, schema)[415]
    if name in _OAUTH:
        answers.pop("422", None)
    for status, answer in answers.items():
        if status in _EMPTY:
            answer.pop("content", None)  # Powertools gives every answer the type of the handler's return value
        if status in _HEADERS:
            answer["headers"] = _HEADERS[status]
    operation["responses"] = dict(sorted(answers.items()))


def _exemplify(path: str, operation: dict[str, Any], examples: dict[str, Any]) -> None:
    """Add examples to requests and answers, in JSON, in a form or as text. An error has its own example, or that of its status."""
    own = examples["operations"].get(operation["operationId"].removesuffix("_at_root"), {})
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path" and (example := _IDS.get(_find_segment(path, parameter["name"]))):
            parameter["example"] = example
    for body in operation.get("requestBody", {}).get("content", {}).values():
        if "request" in own:
            body["example"] = own["request"]
    for status, answer in operation["responses"].items():
        usual = examples["errors"].get(int(status)) if status >= "400" else None
        for media_type, body in answer.get("content", {}).items():
            example = own.get(f"{status} {media_type}", own.get(int(status), usual))
            if example is not None:
                body["example"] = example


def _name_form(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Name a form after its operation, and not after function and path as Powertools does."""
    for body in operation.get("requestBody", {}).get("content", {}).values():
        made = body["schema"].get("$ref", "").rpartition("/")[2]
        if made.startswith("Body_"):
            name = operation["operationId"].title().replace("_", "") + "Form"
            schemas[name] = {**schemas.pop(made), "title": name}
            body["schema"]["$ref"] = f"#/components/schemas/{name}"


def _find_segment(path: str, parameter: str) -> str:
    """Return the segment of a path before one of its parameters."""
    return path.partition(f"/{{{parameter}}}")[0].rpartition("/")[2]


def _tag(path: str) -> str:
    parts = path.removeprefix("/api/v1").split("/")[1:]
    for part in ("avatar", "likes", "credits"):
        if part in parts:
            return "avatars" if part == "avatar" else part
    return "docs" if parts[0] in ("openapi.json", "docs") else parts[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
