"""A user's own data: the use of models by day, and the settings of a front end."""

import json
import math
from typing import Annotated, Any

from aws_lambda_powertools.event_handler.openapi.params import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, RootModel, WithJsonSchema
from pydantic_core import PydanticCustomError

_DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
From = Annotated[str | None, Query(alias="from", pattern=_DAY, description="A day; 30 days up to `to` without it.")]
To = Annotated[str | None, Query(alias="to", pattern=_DAY, description="A day; today without it.")]
UtcOffset = Annotated[
    int,
    Query(
        ge=-720,
        le=840,
        description="The minutes that the days' clock is ahead of UTC: 480 in China. It holds for the whole range.",
    ),
]


class UsageSums(BaseModel):
    """The sums over answers and titles that were charged. Free ones, which failed, are not among them."""

    answers: int
    titles: Annotated[int, Field(description="Titles of chats that a model made.")]
    input_tokens: int
    output_tokens: int
    credits: Annotated[int, Field(description="Spent on them.")]


class ModelUsage(UsageSums):
    """The sums of one model."""

    model: str


class DayUsage(UsageSums):
    """One day, and each model that was used on it."""

    day: str
    models: list[ModelUsage]


class UsageResponse(BaseModel):
    """The days on which something was charged, the newest first. Days without a charge are left out."""

    model_config = ConfigDict(populate_by_name=True)

    first: Annotated[str, Field(alias="from")]
    last: Annotated[str, Field(alias="to")]
    utc_offset: Annotated[int, Field(description="In minutes.")]
    days: list[DayUsage]


SETTINGS_BYTES = 16 * 1024
"""The most bytes of a user's settings, as compact JSON in UTF-8."""
SETTINGS_DEPTH = 16
"""How deep objects and arrays of settings may be in each other."""
_EXACT = 2**53
"""The largest whole number that every reader of JSON keeps (RFC 8259, section 6)."""


def encode_settings(settings: dict[str, Any]) -> bytes:
    """Return settings as they are stored: compact JSON in UTF-8. Raises UnicodeEncodeError if a text is not valid."""
    return json.dumps(settings, ensure_ascii=False, separators=(",", ":")).encode()


def _storable(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings that every reader of JSON can read, or raise an error.

    The walk keeps its own stack, because the depth is checked here.
    """
    pending: list[tuple[Any, int]] = [(settings, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, (dict, list)):
            if depth > SETTINGS_DEPTH:
                raise PydanticCustomError("too_deep", "Objects and arrays may be at most 16 deep in each other.")
            pending += [(part, depth + 1) for part in (value.values() if isinstance(value, dict) else value)]
        elif isinstance(value, (int, float)) and not _is_exact(value):
            raise PydanticCustomError("number_range", "A whole number may have at most 53 bits.")
    try:
        encode_settings(settings)
    except UnicodeEncodeError:  # half a surrogate pair
        raise PydanticCustomError("string_unicode", "A text is not valid Unicode.") from None
    return settings


def _is_exact(number: float) -> bool:
    # No float is made of a whole number: one of 400 digits has none, and raises an error.
    return math.isfinite(number) if isinstance(number, float) else abs(number) <= _EXACT


class Settings(RootModel[dict[str, Any]]):
    """Anything that a front end keeps for its user: a JSON object of at most 16 KB. AIDeer reads nothing of it."""

    root: Annotated[
        dict[str, Any],
        AfterValidator(_storable),
        WithJsonSchema({"type": "object", "additionalProperties": True}),
    ]
