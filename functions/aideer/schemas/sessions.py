"""Requests and responses for sessions: tokens, and the parameters of sign-in and refresh."""

from typing import Annotated, Literal

from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import BaseModel, Field, StringConstraints

from aideer.schemas.strings import Body, DeviceName, Omitted

Code = Annotated[
    str, Query(min_length=1, max_length=256, description="The code from WeChat: valid once, for some minutes.")
]
ReturnedCode = Annotated[
    str | None, Query(max_length=256, description="The code from WeChat; absent if the user declined.")
]
Challenge = Annotated[
    str | None,
    Query(
        pattern="^[A-Za-z0-9_-]{43}$",
        description="The verifier's SHA-256 in base64url (RFC 7636). Needed where tickets are handed to a page.",
    ),
]
ChallengeMethod = Annotated[Literal["S256"] | None, Query(description="Needed with `code_challenge`.")]
DEVICE = "The name of the device in the list of sessions. The default is made of User-Agent."
Device = Annotated[DeviceName | None, Query(description=DEVICE)]
SessionId = Annotated[str, Path(min_length=1, max_length=64, description="A session's id, or `current`: one's own.")]
Others = Annotated[bool, Query(description="Keep the session of this request, and end all others.")]
State = Annotated[str, Query(max_length=256, description="The value that `authorize` sent along.")]


class TokensResponse(BaseModel):
    """A pair of tokens. The access token is valid for `expires_in` seconds, the refresh token for 90 days."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"]
    expires_in: int
    stream_base: Annotated[
        Omitted[str], Field(description="The origin for POST /tasks/stream. If there is none, streams are only polled.")
    ] = None
    session_id: Annotated[
        Omitted[str], Field(description="The id of the session, as GET /users/me/sessions has it.")
    ] = None


class SessionResponse(BaseModel):
    """A session: a sign-in on one device that has not ended."""

    id: str
    device: Annotated[
        str | None,
        Field(description="The name that the sign-in sent, or browser and system; null if neither was told."),
    ]
    method: Annotated[Literal["password", "wechat"], Field(description="How the user signed in.")]
    create_time: str
    last_used_time: Annotated[str, Field(description="The sign-in or the last refresh: right to about a day.")]
    current: Annotated[bool, Field(description="Whether this request's token is of this session.")]


class LoginTicket(Body):
    """The ticket of a website sign-in, in place of a refresh token."""

    ticket: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    code_verifier: Annotated[
        Annotated[str, StringConstraints(pattern="^[A-Za-z0-9._~-]{43,128}$")] | None,
        Field(description="The verifier of the `code_challenge` that `authorize` got (RFC 7636)."),
    ] = None
    device: Annotated[DeviceName | None, Field(description=DEVICE)] = None
