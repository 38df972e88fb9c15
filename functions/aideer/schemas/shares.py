"""Requests and responses for share links, by which anybody reads a chat without signing in."""

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from aideer.schemas.chats import Kind, Role
from aideer.schemas.credits import Moment
from aideer.schemas.strings import Body, Omitted
from aideer.schemas.tasks import Source

LONGEST_SECONDS = 366 * 86400
DEFAULT_SECONDS = 30 * 86400


class NewShare(Body):
    """A link to make. It shows the chat's visible messages of this moment, and none that is written later."""

    expires_at: Annotated[
        Moment | None,
        Field(description="ISO 8601, in the future. UTC if it has no offset. A date alone ends with that day."),
    ] = None
    expires_in: Annotated[
        int | None,
        Field(ge=60, le=LONGEST_SECONDS, description="Seconds, instead of expires_at. Without both: 30 days."),
    ] = None
    upto: Annotated[
        int | None, Field(ge=1, le=2**53, description="The n of the last message to show. Without it: the last one.")
    ] = None
    reasoning: Annotated[bool, Field(description="Whether it shows the reasoning of answers.")] = False
    nickname: Annotated[bool, Field(description="Whether it shows your nickname.")] = False
    preset: Annotated[bool, Field(description="Whether it shows the title of the chat's preset.")] = False

    @model_validator(mode="after")
    def _expires_once(self) -> Self:
        if self.expires_at is not None and self.expires_in is not None:
            raise PydanticCustomError("expires_twice", "Send expires_at or expires_in, not both.")
        return self


class ShareResponse(BaseModel):
    """A link, as the chat's owner and administrators see it: without its secret part."""

    id: str
    chat_id: str
    title: Annotated[str, Field(description="The title that it shows: the chat's, when the link was made.")]
    upto: Annotated[int, Field(description="The n of the last message that it shows.")]
    message_count: Annotated[int, Field(description="The most messages that it shows.")]
    reasoning: bool
    nickname: bool
    preset: bool
    create_time: str
    expires_at: str


class NewShareResponse(ShareResponse):
    """A new link. Only this answer has its secret part, `token`, and addresses with it."""

    token: str
    url: Annotated[str, Field(description="Its page in the web client.")]
    api_url: Annotated[str, Field(description="Its address in this API.")]


class SharedMessageResponse(BaseModel):
    """A message, as a link shows it."""

    n: int
    role: Role
    type: Kind
    content: Annotated[
        str,
        Field(
            description="For an uploaded image: `upload:` and an id. GET /shared/{token}/messages/{n}/upload shows it."
        ),
    ]
    create_time: str
    reasoning: Omitted[str] = None
    sources: Omitted[list[Source]] = None


class SharedChatResponse(BaseModel):
    """A chat, as a link shows it, with messages of it in the order of n."""

    title: str
    preset: Annotated[Omitted[str], Field(description="The preset's title, if the owner shows it.")] = None
    owner: Annotated[Omitted[str], Field(description="The owner's nickname, if the owner shows it.")] = None
    create_time: Annotated[str, Field(description="When the link was made. It shows nothing that is newer.")]
    expires_at: str
    messages: list[SharedMessageResponse]
