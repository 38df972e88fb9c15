"""Requests and responses for users' feedback on answers."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from aideer.schemas.strings import Body, Comment, Omitted, Tag, drop_repeated

Rating = Literal["up", "down"]
TAGS = 8


class FeedbackChange(Body):
    """A rating of an answer. It replaces earlier feedback. A rating of null removes it."""

    rating: Annotated[Rating | None, Field(description="null removes the feedback.")]
    tags: Annotated[
        list[Tag],
        Field(max_length=TAGS, default_factory=list, description="Short words, such as `wrong`."),
        AfterValidator(drop_repeated),
    ]
    comment: Annotated[Comment | None, Field(description="Administrators can read it.")] = None


class Feedback(BaseModel):
    """The rating of an answer by the owner of its chat."""

    rating: Rating
    tags: list[str]
    comment: Omitted[str] = None
    update_time: str


class FeedbackResponse(BaseModel):
    """The feedback on an answer as it is stored now, and the version of its chat, which each change raises."""

    feedback: Annotated[Feedback | None, Field(description="null if it was removed.")]
    chat_version: int


class RatedAnswerResponse(BaseModel):
    """One rated answer, without its text."""

    id: Annotated[str, Field(description="A change of the feedback gives it another id.")]
    user_id: str
    chat_id: str
    n: int
    branch: Annotated[
        Omitted[str], Field(description="The branch of the chat that the answer belongs to, other than the first.")
    ] = None
    rating: Rating
    tags: list[str]
    comment: Omitted[str] = None
    model: str
    preset_id: Annotated[str, Field(description="The chat's preset at the time of the rating.")]
    update_time: str
