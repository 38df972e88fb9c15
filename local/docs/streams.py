"""The OpenAPI description of the streams. They are no Powertools handlers, because tasks/stream.py is an ASGI app."""

from typing import Any


def error(status: int, description: str, schema: str = "Error") -> dict[int, Any]:
    """Return the description of an error's response, by its status."""
    return {
        status: {
            "description": description,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        }
    }


def _settled(status: int, description: str) -> dict[int, Any]:
    schema = {"$ref": "#/components/schemas/TaskResponse"}
    return {status: {"description": description, "content": {"application/json": {"schema": schema}}}}


_TEXT = {"type": "string"}
_DELTA: dict[str, Any] = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"const": "running"}, "content": _TEXT, "reasoning": _TEXT},
    "additionalProperties": False,
}
_END: dict[str, Any] = {
    "type": "object",
    "required": [
        *("status", "content", "reasoning", "finish_reason", "usage", "credits", "error"),
        *("message", "chat_version", "credits_left", "sources"),
    ],
    "properties": {
        "status": {"enum": ["finished", "stopped", "failed"]},
        "content": _TEXT,
        "reasoning": _TEXT,
        "finish_reason": {"type": ["string", "null"]},
        "usage": {"anyOf": [{"$ref": "#/components/schemas/TaskUsage"}, {"type": "null"}]},
        "credits": {"type": ["integer", "null"]},
        "error": {"anyOf": [{"$ref": "#/components/schemas/TaskError"}, {"type": "null"}]},
        "message": {"anyOf": [{"$ref": "#/components/schemas/MessageResponse"}, {"type": "null"}]},
        "chat_version": {"type": ["integer", "null"]},
        "credits_left": {"type": "integer"},
        "sources": {"type": "array", "items": {"$ref": "#/components/schemas/Source"}},
    },
    "additionalProperties": False,
}
_START: dict[str, Any] = {
    "type": "object",
    "required": ["task_id", "chat_id", "position"],
    "properties": {
        "task_id": _TEXT,
        "chat_id": _TEXT,
        "position": {"type": "integer"},
        "replaces": {"type": ["integer", "null"]},
        "continued": {"type": ["boolean", "null"]},
        "chat_version": {"type": ["integer", "null"]},
        "messages": {"type": "array", "items": {"type": "integer"}},
        "credits_held": {"type": "integer"},
        "max_tokens": {"type": "integer"},
        "resume_url": _TEXT,
    },
    "additionalProperties": False,
}
_EVENT: dict[str, Any] = {
    "title": "StreamEvent",
    "type": "object",
    "required": ["data"],
    "properties": {
        "event": {"enum": ["start", "message", "close"]},
        "id": {"type": "string", "pattern": "^([0-9]+|end)$"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"anyOf": [_START, _DELTA, _END, {"type": "object", "maxProperties": 0}]},
        },
    },
}
"""One event of a stream."""

_RESPONSE = {
    200: {
        "description": "The stream. As a whole it is text; each of its events is an object.",
        "content": {"text/event-stream": {"schema": {"anyOf": [_TEXT, _EVENT]}}},
    }
}
_CHUNK: dict[str, Any] = {
    "title": "UIMessageChunk",
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": {"type": "string", "pattern": "^([0-9]+|end)$"},
        "data": {
            "anyOf": [
                {"const": "[DONE]"},
                {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": {
                        "type": "object",
                        "required": ["type"],
                        "properties": {
                            "type": {
                                "enum": [
                                    *("start", "start-step", "reasoning-start", "reasoning-delta", "reasoning-end"),
                                    *("text-start", "text-delta", "text-end", "source-url", "message-metadata"),
                                    *("finish-step", "finish", "error", "abort"),
                                ]
                            },
                            "messageId": _TEXT,
                            "messageMetadata": {"type": "object"},
                            "id": _TEXT,
                            "delta": _TEXT,
                            "sourceId": _TEXT,
                            "url": _TEXT,
                            "title": _TEXT,
                            "finishReason": {"enum": ["stop", "length", "content-filter", "other"]},
                            "errorText": _TEXT,
                            "reason": _TEXT,
                        },
                    },
                },
            ]
        },
    },
}
"""One event of a UI message stream of the AI SDK. The last one is `data: [DONE]`."""
_CHUNKS = {
    200: {
        "description": "The UI message stream. As a whole it is text; each of its events is an object.",
        "headers": {"x-vercel-ai-ui-message-stream": {"description": "`v1`.", "schema": {"const": "v1"}}},
        "content": {"text/event-stream": {"schema": {"anyOf": [_TEXT, _CHUNK]}}},
    }
}
_CHAT_ID: list[dict[str, Any]] = [
    {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "As the client calls the chat, or AIDeer's own id of it.",
    }
]
_UNPROCESSABLE = error(422, "No such question.")
_UNPROCESSABLE[422]["content"]["application/json"]["schema"] = {
    "anyOf": [{"$ref": "#/components/schemas/InvalidRequest"}, {"$ref": "#/components/schemas/Error"}]
}
_POSITIONS: list[dict[str, Any]] = [
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
        "description": "The position to begin from, if the client has received none.",
    },
    {
        "name": "lastEventId",
        "in": "query",
        "schema": {"type": "string"},
        "description": "As Last-Event-ID, which wins over it, for clients that send no headers.",
    },
    {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": {"type": "string"},
        "description": "The last position that was received.",
    },
]
_FOLLOWING = {
    **_RESPONSE,
    **error(401, "No token, a bad one, or another kind."),
    **error(404, "No such task of this user."),
    **error(410, "All of it was received before: the position is `end`."),
    **error(422, "No position of this stream, or a second stream from the start."),
    **error(429, "Too many streams from their start or resumptions, or too many polls that wait."),
    **error(503, "Too much is happening at once."),
}
MODULES = {
    ("POST", "/api/v1/tasks/stream"): "tasks.ask",
    ("GET", "/api/v1/tasks/{id}/stream"): "tasks.stream",
    ("GET", "/api/v1/tasks/{id}/poll"): "tasks.poll",
    ("POST", "/api/v1/ui/chat"): "ui.ask",
    ("GET", "/api/v1/ui/chat/{id}/stream"): "ui.resume",
    ("POST", "/api/v1/ui/chat/{id}/stop"): "ui.stop",
}
"""The names of these operations, as if each had a module of its own."""
SOURCES = {
    "tasks_ask": ("tasks.stream", "ask"),
    "tasks_stream": ("tasks.stream", "stream", "_wait"),
    "tasks_poll": ("tasks.stream", "stream", "_wait"),
    "ui_ask": ("tasks.stream", "ask_ui"),
    "ui_resume": ("tasks.stream", "resume_ui"),
    "ui_stop": ("tasks.stream", "stop_ui"),
}
"""Where the refusals of these operations come from: the module, and its functions."""
PATHS: dict[str, Any] = {
    "/api/v1/tasks/stream": {
        "post": {
            "summary": "Ask, and watch the answer arrive",
            "description": "One request from the question to the answer. It adds messages to a chat (or opens a chat, or asks "
            "again), holds the credits, and streams the answer. Either all of that is stored or nothing. The stream is that of "
            "`GET /tasks/{id}/stream`. Its start event also tells what was stored. A refusal comes as JSON before the stream. "
            "If the line breaks, open `resume_url`, or send the same request with the same key again: that never asks twice. "
            "Send the request to `stream_base` of the sign-in's answer.",
            "parameters": [
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "required": True,
                    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
                    "description": "Makes a repetition harmless for 24 h.",
                },
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewQuestion"}}},
            },
            "responses": {
                **_RESPONSE,
                **error(400, "No key, or no such preset."),
                **error(401, "No token, a bad one, or another kind."),
                **error(402, "Too few credits."),
                **error(403, "Not your chat, or a visitor."),
                **error(404, "No such chat or task of this user."),
                **error(409, "Another task is answering."),
                **error(413, "Too long."),
                **_UNPROCESSABLE,
                **error(429, "Too many answers."),
                **error(503, "Too much is happening at once."),
            },
        }
    },
    "/api/v1/tasks/{id}/stream": {
        "get": {
            "summary": "Watch a task's answer arrive",
            "description": "`event: start`, then unnamed events `id: <position>` with `data: "
            '{"status":"running","content":"<new text>"}` ("reasoning" in its place for thinking), one last data event '
            "`id: end` with the whole answer, its usage and credits, the stored message, the chat's version and the credits "
            "left, and `event: close`. A comment line every 15 s of silence. The start event has `replaces` and `continued`, as "
            "the task has them, so that you show the answer in the place of the message that it replaces. "
            "It resumes at exactly the position of `Last-Event-ID`, `lastEventId` or `after`.",
            "parameters": _POSITIONS,
            "responses": _FOLLOWING,
        }
    },
    "/api/v1/ui/chat": {
        "post": {
            "summary": "Ask, as useChat does",
            "description": "The request that `DefaultChatTransport` of the AI SDK makes. The last of `messages` is read: the "
            "history is the stored one. An unknown `id` opens a chat. A message that is sent again is not asked"
            " again. With `messageId`, it takes the place of an earlier one, in a branch. `regenerate-message` "
            "makes an answer again. Send the request to `stream_base` of the sign-in's answer.",
            "parameters": [
                {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "schema": {"type": "string", "maxLength": 128},
                    "description": "Makes a repeated `regenerate-message` harmless for 24 h. Other messages have their ids.",
                },
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/UIChatRequest"}}},
            },
            "responses": {
                **_CHUNKS,
                **error(400, "No preset, or no such one."),
                **error(401, "No token, a bad one, or another kind."),
                **error(402, "Too few credits."),
                **error(403, "Not your preset, or a visitor."),
                **error(404, "No such chat or message of this user."),
                **error(409, "Another task is answering."),
                **error(413, "Too long."),
                **_UNPROCESSABLE,
                **error(429, "Too many answers, images or refused questions."),
                **error(503, "Too much is happening at once."),
            },
        }
    },
    "/api/v1/ui/chat/{id}/stream": {
        "get": {
            "summary": "Open the running answer of a chat again",
            "description": "The request that `resumeStream()` of the AI SDK makes: the whole answer again, from its `start`. 204 "
            "if no answer is being made, and for an `id` that the client has made and not used yet.",
            "parameters": _CHAT_ID,
            "responses": {
                **_CHUNKS,
                204: {"description": "Nothing is answering."},
                **error(401, "No token, a bad one, or another kind."),
                **error(404, "No such chat of this user."),
                **_UNPROCESSABLE,
                **error(429, "Too many resumptions."),
                **error(503, "Too much is happening at once."),
            },
        }
    },
    "/api/v1/ui/chat/{id}/stop": {
        "post": {
            "summary": "Stop the running answer of a chat",
            "description": "The answer keeps its text so far, and costs that much. `stop()` of the AI SDK only disconnects: call "
            "this first. The task is returned once it has settled, or with 202 if that takes longer. 204 as for the stream.",
            "parameters": _CHAT_ID,
            "responses": {
                **_settled(200, "The task as it has ended."),
                **_settled(202, "It will stop, but has not settled yet."),
                204: {"description": "Nothing is answering."},
                **error(401, "No token, a bad one, or another kind."),
                **error(404, "No such chat of this user."),
                **_UNPROCESSABLE,
                **error(429, "Too many stops."),
                **error(503, "Too much is happening at once."),
            },
        }
    },
    "/api/v1/tasks/{id}/poll": {
        "get": {
            "summary": "Read a task's answer in parts, without streaming",
            "description": "The same events as of the stream, for clients and regions that cannot stream. Waits up to 20 s for new "
            "text, answers with what is there, and ends. Go on with the last `id` as `Last-Event-ID`, until `event: close`.",
            "parameters": _POSITIONS,
            "responses": _FOLLOWING,
        }
    },
}


def schemas() -> dict[str, Any]:
    """Return the schemas of the bodies that these operations take. The operations of other handlers have their parts."""
    from aideer.ai_sdk.requests import UIChatRequest
    from aideer.schemas.questions import NewQuestion

    asked, chat = (
        model.model_json_schema(ref_template="#/components/schemas/{model}") for model in (NewQuestion, UIChatRequest)
    )
    del asked["$defs"]
    return {"NewQuestion": asked, "UIChatRequest": chat, **chat.pop("$defs")}
