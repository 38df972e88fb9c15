"""Requests and responses for tasks."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from aideer.schemas.strings import Omitted

_STREAM_URL = "The URL of the answer's stream. It opens once; null for a title, and for an API key's answer."
_REPLACES = "The n of the message that the answer takes the place of, once it has text; null: none."
_CONTINUED = "Whether the answer goes on with that message's text, or is made anew; null: there is none."
_RESUME_URL = "The same stream from position 0. It opens at any time, also after a reload; null as stream_url is."


class AcceptedTaskResponse(BaseModel):
    """An accepted task, with the URL of its stream and the credits held for it."""

    task_id: str
    status: str
    chat_id: Annotated[Omitted[str], Field(description="The chat of the answer, also if the request opened it.")] = None
    chat_version: Annotated[Omitted[int], Field(description="The version of the chat with this task.")] = None
    messages: Annotated[Omitted[list[int]], Field(description="The n of each message that the request added.")] = None
    stream_url: Annotated[str | None, Field(description=_STREAM_URL)]
    resume_url: Annotated[str | None, Field(description=_RESUME_URL)]
    credits_held: int
    max_tokens: int


class QuoteResponse(BaseModel):
    """The most that a task would cost. If you cannot afford it, the quote is for the longest answer that the preset allows."""

    input_tokens: int
    max_tokens: int
    credits_at_most: int
    affordable: bool


class TaskUsage(BaseModel):
    """Tokens as the provider counted them. Reasoning is part of the output, and cached is part of the input.

    If the provider reported no usage for an answer that was stopped, the input tokens are AIDeer's own estimate.
    """

    input_tokens: int
    output_tokens: int
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    searches: int = 0


class Source(BaseModel):
    """A web page that the provider's search found for an answer."""

    index: int
    title: str
    url: str
    site_name: str


class TaskError(BaseModel):
    """The reason why a task failed."""

    code: str
    message: str


class TaskResponse(BaseModel):
    """A task, with its text so far."""

    task_id: str
    chat_id: Annotated[str | None, Field(description="Null if an API key asked: such an answer has no chat.")]
    type: str
    replaces: Annotated[int | None, Field(description=_REPLACES)]
    continued: Annotated[bool | None, Field(description=_CONTINUED)]
    status: Literal["pending", "running", "finished", "stopped", "failed"]
    content: str
    reasoning: str
    finish_reason: str | None
    usage: TaskUsage | None
    credits: int | None
    error: TaskError | None
    stream_url: Annotated[str | None, Field(description=_STREAM_URL)]
    resume_url: Annotated[str | None, Field(description=_RESUME_URL)]
    create_time: str
    end_time: str | None
