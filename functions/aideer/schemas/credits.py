"""Credits, redeem codes and prices."""

from datetime import UTC, date, datetime, time
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from aideer.core import clock
from aideer.schemas.strings import Body, Description, Omitted, clean_pasted


def _utc(text: str) -> str:
    """Return an ISO 8601 moment in the format of clock.timestamp, so that text order is time order.

    A moment without an offset is UTC. A date without a time is the last moment of that day.
    """
    try:
        if day := _day(text):
            return clock.format_utc(datetime.combine(day, time.max, UTC))
        moment = datetime.fromisoformat(text)
        return clock.format_utc(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise PydanticCustomError("moment_invalid", "An ISO 8601 date and time is expected.") from None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _some(amount: int) -> int:
    if amount == 0:
        raise PydanticCustomError("amount_zero", "An amount other than 0 is expected.")
    return amount


CodeText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9-]+$"),
    BeforeValidator(lambda value: clean_pasted(value) if isinstance(value, str) else value),
]
Moment = Annotated[str, StringConstraints(min_length=1, max_length=40), AfterValidator(_utc)]


class NewRedemption(Body):
    """A redeem code to use. Upper and lower case are the same."""

    redeem_code: CodeText


class RedemptionResponse(BaseModel):
    """The credits that a redeem code added."""

    message: str
    value: int
    credits_left: int


class NewGrant(Body):
    """Credits to give to a user, or to take from them."""

    amount: Annotated[
        int, Field(ge=-(10**12), le=10**12, description="Not 0; below 0 it is taken."), AfterValidator(_some)
    ]
    description: Description


class GrantResponse(BaseModel):
    """The user's credits after a grant."""

    message: str
    amount: int
    credits_left: int


class LedgerEntryResponse(BaseModel):
    """One entry of the ledger. An answer's entry also has its model, its tokens and its price version.

    If an API key asked, its kind is `api`, and it has the id of the key.
    """

    id: str
    user_id: str
    amount: int
    kind: str
    description: str
    task_id: Omitted[str] = None
    key_id: Omitted[str] = None
    model: Omitted[str] = None
    input_tokens: Omitted[int] = None
    output_tokens: Omitted[int] = None
    price_version: Omitted[str] = None
    create_time: str


class LedgerResponse(BaseModel):
    """The user's credits and ledger entries, newest first."""

    credits_left: int
    credits_held: int
    credit_records: list[LedgerEntryResponse]


class NewCode(Body):
    """A redeem code to create, or a batch of `count` codes. Without `redeem_code` the server generates the codes."""

    redeem_code: CodeText | None = None
    value: Annotated[int, Field(ge=1, le=10**12, description="Credits.")]
    max_uses: Annotated[int, Field(ge=1, le=10**9)] = 1
    expires_at: Annotated[
        Moment | None,
        Field(description="ISO 8601, in the future. UTC if it has no offset. A date alone ends with that day."),
    ] = None
    description: Description | None = None
    count: Annotated[int | None, Field(ge=1, le=500, description="The number of codes in a batch.")] = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if self.count is not None and self.redeem_code is not None:
            raise PydanticCustomError("count_and_redeem_code", "A batch's codes are invented.")
        return self


class RedeemCodeResponse(BaseModel):
    """A redeem code."""

    redeem_code: str
    value: int
    max_uses: int
    used: int
    state: Literal["active", "used_up", "revoked", "expired"]
    expires_at: str | None
    batch: str | None
    batch_size: Annotated[
        Omitted[int],
        Field(description="How many codes this code's batch has. Only lists with `group_batches` have it."),
    ] = None
    description: str | None
    create_time: str


class CodeBatchResponse(BaseModel):
    """The redeem codes of one batch."""

    batch: str
    codes: list[RedeemCodeResponse]


class PriceTier(BaseModel):
    """Credits per `per` tokens, for prompts of up to `up_to` tokens."""

    up_to: int
    input: int
    cached: Annotated[Omitted[int], Field(description="In place of input, for what the provider had in its cache.")] = (
        None
    )
    output: int
    thinking: Annotated[Omitted[int], Field(description="The price in place of output, if the model thought.")] = None


class SearchFees(BaseModel):
    """Credits per 1,000 searches, by `search_strategy`."""

    turbo: int
    max: int


class SearchPrice(BaseModel):
    """The price of a search, and the most tokens that it adds to a prompt."""

    tokens: int
    fees: SearchFees


class ModelPrice(BaseModel):
    """One model's prices, limits (tokens) and abilities."""

    model: str
    status: Annotated[Literal["available", "retired"], Field(description="A retired model answers nothing any more.")]
    retires_on: Annotated[
        Omitted[str],
        Field(description="The first day without the model, in the provider's time zone (UTC+8)."),
    ] = None
    tiers: list[PriceTier]
    context: int
    max_input: int
    max_output: int
    thinking: Annotated[
        Literal["never", "optional", "always"], Field(description="Whether the model can think, and must.")
    ]
    max_thinking: Annotated[Omitted[int], Field(description="The largest thinking_budget.")] = None
    thinking_budget: Annotated[
        Omitted[bool], Field(description="Whether the model keeps within a thinking_budget.")
    ] = None
    reasoning_effort: Annotated[
        Omitted[list[str]], Field(description="The values that the model takes; none without it.")
    ] = None
    effort_with_budget: Annotated[
        Omitted[bool], Field(description="Whether it takes thinking_budget beside reasoning_effort.")
    ] = None
    vision: Annotated[bool, Field(description="Whether messages can be images.")]
    image_tokens: Annotated[Omitted[int], Field(description="The most that one image can be.")] = None
    search: Annotated[Omitted[SearchPrice], Field(description="A model without it does not search.")] = None
    structured_output: Annotated[
        list[Literal["json_object", "json_schema"]], Field(description="The types of response_format that it takes.")
    ]
    tools: Annotated[bool, Field(description="Whether the model can call tools.")]
    tokenizer: Annotated[
        Literal["qwen", "unverified"],
        Field(description="qwen: long prompts can be counted. unverified: a prompt counts as its bytes."),
    ]
    endpoint: Annotated[Literal["text", "multimodal"], Field(description="The provider's interface.")]
    max_tokens_parameter: Annotated[
        Literal["max_tokens", "max_completion_tokens"], Field(description="The provider's name for max_tokens.")
    ]
    confirm: Annotated[
        list[str], Field(description="Fields that the operator has not yet compared with the provider's own pages.")
    ]


class PricesResponse(BaseModel):
    """The current price list. It is also the list of models."""

    version: str
    region: Annotated[str, Field(description="The provider's region that the prices are of.")]
    per: Annotated[int, Field(description="Tokens that a price is for.")]
    models: list[ModelPrice]
