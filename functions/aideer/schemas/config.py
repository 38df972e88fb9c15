"""The configuration of a deployment: what a front end begins with, and what administrators change."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from aideer.schemas.credits import ModelPrice, Moment
from aideer.schemas.questions import Id
from aideer.schemas.strings import AnnouncementText, Body

Level = Literal["info", "warning", "critical"]


class NewAnnouncement(Body):
    """An announcement for all users, as plain text. After `until`, GET /config leaves it out."""

    text: AnnouncementText
    level: Level = "info"
    until: Annotated[
        Moment | None, Field(description="ISO 8601. UTC if it has no offset. A date alone ends with that day.")
    ] = None


class ConfigChange(Body):
    """Changes of the configuration. A field that you omit stays as it is, and null removes it."""

    default_preset: Annotated[Id | None, Field(description="The id of a public preset.")] = None
    announcement: NewAnnouncement | None = None


class AnnouncementResponse(BaseModel):
    """An announcement for all users. It is plain text."""

    text: str
    level: Level
    until: Annotated[str | None, Field(description="null: until an administrator removes it.")]


class StoredConfigResponse(BaseModel):
    """The configuration as administrators have set it. `version` is the ETag, and 0 before the first change."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    default_preset: Annotated[str | None, Field(description="It may have been deleted or unpublished since.")]
    announcement: Annotated[AnnouncementResponse | None, Field(description="Also after its `until`.")]
    update_time: Annotated[str | None, Field(description="null before the first change.")]


class DefaultPreset(BaseModel):
    """The preset on which a front end opens the first chat."""

    id: str
    title: str
    description: str | None
    model: str


class SignInWays(BaseModel):
    """The ways to sign in that this deployment has set up."""

    password: Annotated[bool, Field(description="POST /users and POST /session/oauth2/token.")]
    wechat_mini_program: Annotated[bool, Field(description="GET /session/wechat/token.")]
    wechat_website: Annotated[bool, Field(description="GET /session/wechat/authorize.")]
    wechat_website_ticket: Annotated[
        bool, Field(description="Whether your page receives a ticket, and so must send `code_challenge`.")
    ]


class CharacterRange(BaseModel):
    """The least and the most characters of a text."""

    least: int
    most: int


class RateLimit(BaseModel):
    """How often something may be done in how many seconds. For `poll`, the number that may wait at one time."""

    times: int
    seconds: int


class Limits(BaseModel):
    """Limits that a front end can show or check before it asks."""

    message_bytes: Annotated[int, Field(description="The most bytes of UTF-8 in one message.")]
    messages_at_once: Annotated[int, Field(description="The most messages in one request.")]
    question_bytes: Annotated[int, Field(description="The most bytes of all messages in one request for an answer.")]
    title_characters: int
    open_tasks: Annotated[int, Field(description="The most answers of one user at one time.")]
    chats: Annotated[int, Field(description="The most chats of one user.")]
    presets: Annotated[int, Field(description="The most presets of one user.")]
    avatar_bytes: int
    username_characters: CharacterRange
    password_characters: CharacterRange
    upload_types: Annotated[list[str], Field(description="The types of files that can be uploaded.")]
    upload_bytes: Annotated[int, Field(description="The most bytes of one file.")]
    image_pixels: Annotated[int, Field(description="The most pixels of an uploaded image.")]
    document_bytes: Annotated[int, Field(description="The most bytes of UTF-8 in the text of an uploaded document.")]
    uploads_at_once: Annotated[int, Field(description="The most uploads that one request adds to a chat.")]
    open_uploads: Annotated[int, Field(description="The most uploads of one user that no chat uses yet.")]
    pinned_chats: Annotated[int, Field(description="The most pinned chats of one user.")]
    tags: Annotated[int, Field(description="The most tags of one chat.")]
    tag_characters: CharacterRange
    branches: Annotated[int, Field(description="The most branches of one chat.")]
    siblings: Annotated[int, Field(description="The most branches that continue one message.")]
    rates: Annotated[dict[str, RateLimit], Field(description="By the limit's name. A refusal is 429.")]


class ConfigResponse(BaseModel):
    """The deployment, as a front end needs to know it before anybody signs in."""

    version: Annotated[str, Field(description="The release that answers.")]
    stream_base: Annotated[
        str | None, Field(description="The origin of POST /tasks/stream; null: poll instead, or use this API's own.")
    ]
    v1_base: Annotated[
        str | None,
        Field(description="The base URL of OpenAI's API, with `/v1` at its end; null: this deployment has none."),
    ]
    sign_in: SignInWays
    default_preset: Annotated[
        DefaultPreset | None, Field(description="null: none is set, or it was deleted or is not public any more.")
    ]
    announcement: AnnouncementResponse | None
    price_version: str
    per: Annotated[int, Field(description="Tokens that a price is for.")]
    models: Annotated[list[ModelPrice], Field(description="As GET /prices has them.")]
    limits: Limits
