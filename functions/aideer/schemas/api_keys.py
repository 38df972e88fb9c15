"""Requests and responses for API keys."""

from typing import Annotated, Self

from aws_lambda_powertools.event_handler.openapi.params import Path
from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from aideer.schemas.credits import Moment
from aideer.schemas.strings import Body, Title, drop_repeated
from aideer.schemas.users import CurrentPassword

KeyId = Annotated[str, Path(min_length=1, max_length=64)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
_MODELS = "The models that it may ask, and presets as `preset-` and their id. Null: all."
_LIMIT = "The most credits that its answers may cost in all. Null: no limit beside your credits."
_EXPIRES = "ISO 8601, in the future. UTC if it has no offset. A date alone ends with that day. Null: never."
Models = Annotated[list[ModelName], Field(min_length=1, max_length=50), AfterValidator(drop_repeated)]
CreditLimit = Annotated[int, Field(ge=1, le=10**12)]


class NewApiKey(Body):
    """An API key to make."""

    name: Title
    expires_at: Annotated[Moment | None, Field(description=_EXPIRES)] = None
    models: Annotated[Models | None, Field(description=_MODELS)] = None
    credit_limit: Annotated[CreditLimit | None, Field(description=_LIMIT)] = None
    current_password: CurrentPassword = None


class ApiKeyChange(Body):
    """The changes of an API key. A field that you leave out stays as it is. Null removes an expiry, a list or a limit."""

    name: Title = ""
    disabled: Annotated[bool, Field(description="Whether the key is paused.")] = False
    expires_at: Annotated[Moment | None, Field(description=_EXPIRES)] = None
    models: Annotated[Models | None, Field(description=_MODELS)] = None
    credit_limit: Annotated[CreditLimit | None, Field(description=_LIMIT)] = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("no_change", "Send at least one field to change.")
        return self


class ApiKeyResponse(BaseModel):
    """An API key, as its user and administrators see it."""

    id: str
    name: str
    hint: Annotated[str, Field(description="The last four characters of the key.")]
    models: Annotated[list[str] | None, Field(description=_MODELS)]
    credit_limit: Annotated[int | None, Field(description=_LIMIT)]
    credits_used: Annotated[
        int, Field(description="The credits that it has spent, with those that are held for its open answers.")
    ]
    disabled: bool
    expires_at: str | None
    create_time: str
    last_used_time: str | None


class NewApiKeyResponse(ApiKeyResponse):
    """A new API key. Only this answer has the key itself."""

    key: str
