"""Users, as they sign up and as responses show them."""

from typing import Annotated

from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import BaseModel, Field, StringConstraints

from aideer.schemas import strings
from aideer.schemas.strings import Body, Nickname, Password, Username

UserId = Annotated[str, Path(min_length=1, max_length=64)]
NamedUser = Annotated[str, Path(min_length=1, max_length=64, description="A user's id, or `me`: oneself.")]
AvatarVersion = Annotated[
    str | None, Query(max_length=64, description="As in the path of `avatar`: the answer may be kept then.")
]
AvatarName = Annotated[str, Path(pattern="^[0-9a-f]{64}-[0-9a-f-]{36}$", description="As in `avatar_url`.")]
CurrentPassword = Annotated[
    Password | None,
    Field(description="The caller's own: needed where they have not signed in within ten minutes."),
]


class NewUser(Body):
    """A sign-up. `permission` is 0 (visitor) or 1 (user); 2 (admin) is refused."""

    username: Username
    password: strings.PasswordToSet
    nickname: Annotated[Nickname | None, Field(description="The default is the username.")] = None
    permission: Annotated[int, Field(ge=0, le=2)] = 1


class NewAdmin(Body):
    """The input of operations/make_admin."""

    username: Username
    password: strings.PasswordToSet


class UserResponse(BaseModel):
    """A user, as that user and administrators see it."""

    id: str
    username: str | None
    nickname: str
    permission: int
    avatar: Annotated[
        str | None, Field(description="The path of the avatar, if there is one. Each avatar has a path of its own.")
    ]
    avatar_url: Annotated[
        str | None, Field(description="The same picture at an address that needs no token, for `<img>`.")
    ]
    credits_left: int
    credits_held: Annotated[int, Field(description="Set aside for answers that are being made.")]
    create_time: str
    update_time: str


class PublicUserResponse(BaseModel):
    """A user, as other users see it: without the username."""

    id: str
    nickname: Annotated[str, Field(description="A neutral name if the user has chosen none but the username.")]
    avatar: Annotated[
        str | None, Field(description="The path of the avatar, if there is one. Each avatar has a path of its own.")
    ]
    avatar_url: Annotated[
        str | None, Field(description="The same picture at an address that needs no token, for `<img>`.")
    ]


class UserChange(Body):
    """The changes of a user. A field that you leave out, or set to null, stays as it is."""

    username: Username | None = None
    nickname: Nickname | None = None
    permission: Annotated[int | None, Field(ge=0, le=2, description="By administrators only, and not their own.")] = (
        None
    )
    current_password: CurrentPassword = None


class Confirmation(Body):
    """The confirmation of a deletion."""

    current_password: CurrentPassword = None


class PasswordChange(Body):
    """A new password of your own. If you have none yet, leave out the old one; you must have signed in within ten minutes."""

    old_password: Password | None = None
    new_password: strings.PasswordToSet


class NewPassword(Body):
    """A password that an administrator sets for a user."""

    new_password: strings.PasswordToSet
    current_password: CurrentPassword = None


class WechatCode(Body):
    """The code of a mini program's `wx.login`."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    current_password: CurrentPassword = None


class NamedPassword(Body):
    """A username and a password to sign in with from now on."""

    username: Username
    password: strings.PasswordToSet


class LikesResponse(BaseModel):
    """The likes of a user, newest first. Items that were deleted or made private later are still among them."""

    preset_ids: list[str]
    chat_ids: list[str]


class DoneResponse(BaseModel):
    """An answer that only confirms success."""

    message: str
