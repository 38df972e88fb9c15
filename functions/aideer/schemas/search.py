"""The response of a search."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from aideer.schemas.chats import Role
from aideer.schemas.strings import Omitted

Scope = Literal["all", "titles"]


class SearchHitResponse(BaseModel):
    """A message that has all the words, or a chat whose title has them."""

    chat_id: str
    title: Annotated[str, Field(description="The title of the chat.")]
    archived: Annotated[bool, Field(description="Whether the chat is archived.")]
    update_time: Annotated[str, Field(description="When the chat changed last. Hits are in this order.")]
    n: Annotated[Omitted[int], Field(description="The n of the message. A hit in the title has none.")] = None
    role: Annotated[Omitted[Role], Field(description="The role of the message.")] = None
    snippet: Annotated[str, Field(description="The text around the first word, in one line of at most 162 characters.")]
    create_time: Annotated[str, Field(description="When the message, or the chat, was made.")]
