"""Requests of the AI SDK's DefaultChatTransport: the id of a chat, all messages as the client has them, and fields of the app.

Only the last message is read, because the history comes from the store. Fields of the client and parts of messages that are not
known are ignored, because each version of the SDK brings new ones. The app's own fields say which preset opens a chat, and how the
model is called. In `parameters`, an unknown field is an error.
"""

import json
from collections.abc import AsyncIterable, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from aideer.chats import client_ids
from aideer.core.errors import Detail, Unprocessable
from aideer.schemas.chats import MOST_MESSAGES, AutoTitle, NewMessage, PresetId, Visibility
from aideer.schemas.questions import Id
from aideer.schemas.strings import Body, Omitted, Title
from aideer.uploads import attachments, inline_images, kinds, references
from aideer.uploads.inline_images import InlineImage
from aideer.web import bodies

BODY_BYTES = 6 * 1024 * 1024
"""The most bytes of a body: what Lambda takes (AWS: "Lambda quotas", invocation payload)."""
MOST_PARTS = 200
"""The most parts of a message, with those that are ignored."""
_URL_CHARACTERS = BODY_BYTES
Model = TypeVar("Model", bound=BaseModel)
ClientId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=client_ids.LONGEST),
    Field(description="Any text: the client makes it, or it is an id of AIDeer's."),
]


class _Lenient(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class TextPart(_Lenient):
    """A text."""

    type: Literal["text"]
    text: Annotated[str, StringConstraints(max_length=BODY_BYTES)]


class FilePart(_Lenient):
    """An image, as a data: or an https address, or an upload, as its `content`."""

    type: Literal["file"]
    mediaType: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    url: Annotated[str, StringConstraints(min_length=1, max_length=_URL_CHARACTERS)]
    filename: Annotated[str | None, StringConstraints(max_length=255)] = None


class _Identified(_Lenient):
    id: ClientId


class UIMessage(_Identified):
    """A message as the AI SDK has it."""

    role: Literal["user", "assistant", "system"]
    parts: Annotated[list[Any], Field(max_length=MOST_PARTS)]


class CallParameters(Body):
    """Parameters of this call of the model. They take the place of the preset's, with the same ranges."""

    seed: Annotated[Omitted[int], Field(ge=0, le=2**63 - 1)] = None
    max_tokens: Annotated[Omitted[int], Field(ge=1, le=10**6)] = None
    top_p: Annotated[Omitted[float], Field(gt=0, le=1, allow_inf_nan=False)] = None
    temperature: Annotated[Omitted[float], Field(ge=0, lt=2, allow_inf_nan=False)] = None
    enable_search: Omitted[bool] = None
    enable_thinking: Omitted[bool] = None
    thinking_budget: Annotated[Omitted[int], Field(ge=1, le=10**6)] = None
    reasoning_effort: Omitted[Literal["minimal", "low", "medium", "high", "xhigh", "max"]] = None


_PART = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
_MESSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["id", "role", "parts"],
    "properties": {
        "id": {"type": "string", "minLength": 1, "maxLength": 128},
        "role": {"enum": ["user", "assistant", "system"]},
        "parts": {"type": "array", "maxItems": MOST_PARTS, "items": {**_PART, "additionalProperties": True}},
    },
    "additionalProperties": True,
}
"""The schema of a message. A validation of all of them would refuse what a later version of the SDK adds."""


class UIChatRequest(_Lenient):
    """The body that DefaultChatTransport sends. The last of `messages` is read, and the others are ignored.

    The fields from `preset_id` on are the app's own, from the transport's `body`. Those up to `visibility` count if the request
    opens the chat. Without `preset_id`, the deployment's default preset opens it.
    """

    id: ClientId
    messages: Annotated[
        list[Any], Field(min_length=1, description="The AI SDK's UI messages.", json_schema_extra={"items": _MESSAGE})
    ]
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: ClientId | None = None
    preset_id: PresetId | None = None
    title: Title | None = None
    auto_title: AutoTitle = None
    visibility: Visibility = "private"
    model: Annotated[Id | None, Field(description="The model that answers, in place of the preset's.")] = None
    parameters: CallParameters | None = None

    @property
    def overrides(self) -> dict[str, Any] | None:
        """The parameters of the call, if there are any."""
        return self.parameters.model_dump(exclude_none=True) if self.parameters else None


class Said:
    """What the user says: the last message of the request, part by part. An image in it is not stored yet."""

    def __init__(self, message_id: str, parts: Sequence[NewMessage | InlineImage], digest: str) -> None:
        self.id = message_id
        self.parts = parts
        self.digest = digest
        """The SHA-256 of the message as it came."""


async def read(stream: AsyncIterable[bytes]) -> UIChatRequest:
    """Read a request. Raises InvalidRequest and TooLarge. Errors repeat nothing of the request."""
    raw = await bodies.read_stream(stream, BODY_BYTES)
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise bodies.InvalidRequest([bodies.UNREADABLE]) from None
    return _validate(UIChatRequest, value, ("body",))


def read_said(request: UIChatRequest) -> Said:
    """Return what the user says. Raises InvalidRequest, Unprocessable, UnsupportedMediaType and TooLarge."""
    place = ("body", "messages", len(request.messages) - 1)
    message = _validate(UIMessage, request.messages[-1], place)
    if message.role != "user":
        raise Unprocessable("last_message_not_user", "The last message must be the user's.")
    parts: list[NewMessage | InlineImage] = []
    quoted: list[str] = []
    for number, part in enumerate(message.parts):
        found = _read_part(part, (*place, "parts", number))
        if found is not None:
            parts.append(found[0])
            quoted += found[1]
    if not parts:
        raise Unprocessable("empty_message", "A message needs content.")
    if len(parts) > MOST_MESSAGES:
        raise Unprocessable("too_many_parts", Detail("A message has at most {most} parts.", most=MOST_MESSAGES))
    if sum(isinstance(part, InlineImage) for part in parts) > attachments.MOST:
        raise attachments.too_many()  # before the first of them is drawn and stored
    return Said(message.id, parts, client_ids.digest(*quoted))


def find_last_user_id(request: UIChatRequest) -> str | None:
    """Return the id of the last message if it is the user's, or None. Raises InvalidRequest for an id that is none."""
    last = request.messages[-1]
    if isinstance(last, dict) and last.get("role") == "user":
        return _validate(_Identified, last, ("body", "messages", len(request.messages) - 1)).id
    return None


def find_answer_before(request: UIChatRequest) -> str | None:
    """Return the id of the last answer that the client shows, or None."""
    for message in reversed(request.messages[:-1]):
        if isinstance(message, dict) and message.get("role") == "assistant" and message.get("parts"):
            return str(message.get("id"))
    return None


def _read_part(part: Any, place: tuple[str | int, ...]) -> tuple[NewMessage | InlineImage, list[str]] | None:
    """Return what a part says, and the texts that it is known by. Return None for a part that says nothing to the model."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        text = _validate(TextPart, part, place).text
        return (_to_message("text", text, place), ["text", text]) if text else None
    if kind == "file":
        file = _validate(FilePart, part, place)
        return _read_file(file, place), ["file", file.mediaType, file.url]
    return None


def _read_file(file: FilePart, place: tuple[str | int, ...]) -> NewMessage | InlineImage:
    if file.url[: len(inline_images.PREFIX)].lower() == inline_images.PREFIX:
        return inline_images.parse(file.url, file.filename)
    kind = kinds.IMAGE if file.mediaType.lower().startswith("image/") else kinds.DOCUMENT
    if kind == kinds.DOCUMENT and not file.url.startswith(references.PREFIX):
        raise Unprocessable("upload_required", "The content of a new document is the content of an upload.")
    return _to_message(kind, file.url, place)


def _to_message(kind: str, content: str, place: tuple[str | int, ...]) -> NewMessage:
    return _validate(NewMessage, {"role": "user", "type": kind, "content": content}, place)


def _validate(model: type[Model], value: Any, place: tuple[str | int, ...]) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = ({**dict(one), "loc": (*place, *one["loc"])} for one in error.errors())
        raise bodies.InvalidRequest(bodies.public_errors(model if len(place) == 1 else None, found)) from None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and the infinities are no JSON
