"""Users, as they sign up and as they are shown."""

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from aideer.contract.strings import Body, Nickname, Username

Password = Annotated[str, StringConstraints(min_length=6, max_length=255)]


class NewUser(Body):
    """A sign-up. `permission` is 0 (visitor) or 1 (user); 2 (admin) is refused."""

    username: Username
    password: Password
    nickname: Annotated[Nickname | None, Field(description="The username, where there is none.")] = None
    permission: Annotated[int, Field(ge=0, le=2)] = 1


class NewAdmin(Body):
    """What the operator gives operations/make_admin."""

    username: Username
    password: Password


class User(BaseModel):
    """A user, as shown to themselves."""

    id: str
    username: str | None
    nickname: str
    permission: int
    avatar: Annotated[str | None, Field(description="The picture's path, where there is one.")]
    credits_left: int
    credits_held: Annotated[int, Field(description="Set aside for answers that are being made.")]
    create_time: str
    update_time: str


class Done(BaseModel):
    """An answer that only says that it happened."""

    message: str
