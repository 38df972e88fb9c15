"""The cost of an answer. 1 credit = 0.0001 CNY. Amounts are whole credits. Prices are integer credits per `per` tokens.

An operator edits the prices: one table for each region of the provider, prices/REGION.json. prices/schema.json describes it, and
`python -m local.stack.prices` checks it. Each edit raises the table's version. Every task freezes the tariff under which it was
accepted, so an edit never changes the cost of an open task.

A tariff without `per` is of the first release. Its prices are per 1,000 tokens, and it has no cached price and no search fee. It
is settled at exactly the cost that it had then.

If a model has a `thinking` price, an answer that thought pays it for all of its output. Any other answer pays `output`. (Alibaba
Model Studio, "Billing for text generation models": thinking mode prices chain of thought and answer alike.) An answer that showed
reasoning thought, even if no reasoning tokens were reported. The provider's own samples report none for answers with reasoning.
"""

import functools
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

from aideer.core import clock, settings
from aideer.core.usage import Usage

TABLES = Path(__file__).with_name("prices")
SMALLEST_ANSWER = 16
"""Tokens. A hold that pays for fewer is refused, unless the preset asks for fewer."""
DEFAULT_MAX_TOKENS = 2048
DEFAULT_THINKING_BUDGET = 4096
SEARCHES_PER_FEE = 1000
"""The number of searches that a search fee is for, as on the provider's price page."""
_FIRST_RELEASE = 1000
"""The number of tokens that a price of the first release is for."""
_PROVIDERS_ZONE = timezone(timedelta(hours=8))
_NOT_FROZEN = (
    "confirm",
    "retires_on",
    "search",
    "structured_output",
    "tools",
    "reasoning_effort",
    "effort_with_budget",
)

Strategy = Literal["turbo", "max"]
Thinking = Literal["never", "optional", "always"]


class Tier(TypedDict):
    """Prices for prompts of up to `up_to` tokens."""

    up_to: int
    input: int
    output: int
    cached: NotRequired[int]  # in place of `input`, for the input that the provider had in its cache
    thinking: NotRequired[int]  # in place of `output`, if the answer thought


class Search(TypedDict):
    """The cost of a search: the most tokens that it adds to a prompt, and credits per 1,000 searches by strategy."""

    tokens: int
    fees: dict[Strategy, int]


class Tariff(TypedDict):
    """One model's prices and limits, with the version of their table.

    The table's own entries have every field that is not marked NotRequired, except `version`, which `get_tariff` adds. Only frozen
    tariffs have `search_fee`. Tariffs of the first release have `model`, `endpoint`, `context`, `max_output`, `vision`, `tiers`
    and `version`. They may have `image_tokens`, `search_tokens` and `always_thinks`.
    """

    model: str
    endpoint: Literal["text", "multimodal"]
    context: int
    max_output: int
    vision: bool
    tiers: list[Tier]
    version: str
    per: NotRequired[int]  # tokens that a price is for
    max_input: NotRequired[int]
    thinking: NotRequired[Thinking]
    max_thinking: NotRequired[int]  # for a model that may think
    thinking_budget: NotRequired[bool]  # whether a model that may think keeps within a thinking_budget
    reasoning_effort: NotRequired[list[str]]  # the values that the model takes; a model without it takes none
    effort_with_budget: NotRequired[bool]  # whether the model takes both at once
    max_tokens_parameter: NotRequired[Literal["max_tokens", "max_completion_tokens"]]
    image_tokens: NotRequired[int]  # the most tokens of one image
    structured_output: NotRequired[list[Literal["json_object", "json_schema"]]]
    tools: NotRequired[bool]
    search: NotRequired[Search]  # a model without it does not search
    tokenizer: NotRequired[Literal["qwen", "unverified"]]
    retires_on: NotRequired[str]  # the first day without it, in the provider's time zone
    confirm: NotRequired[list[str]]  # the fields that an operator must compare with the provider's pages
    search_fee: NotRequired[int]  # frozen: credits per 1,000 searches of the task's strategy
    search_tokens: NotRequired[int]  # frozen: the most tokens that a search adds to the prompt
    always_thinks: NotRequired[bool]  # first release only


@functools.cache
def get_table() -> dict[str, Any]:
    """Return the price table of the provider's region: {version, region, base_url, per, models: [...]}."""
    path = TABLES / f"{settings.PROVIDER_REGION}.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def get_tariff(model: str) -> Tariff | None:
    """Return the current tariff of a model, retired or not, or None for a model that the table does not have."""
    for entry in get_table()["models"]:
        if entry["model"] == model:
            return cast(Tariff, {**entry, "version": get_table()["version"], "per": get_table()["per"]})
    return None


def publish() -> dict[str, Any]:
    """Return the table as GET /prices shows it: each model with its `status` of today."""
    models = [
        {**entry, "status": "retired" if is_retired(cast(Tariff, entry)) else "available"}
        for entry in get_table()["models"]
    ]
    return {**get_table(), "models": models}


def freeze(tariff: Tariff, strategy: Strategy | None) -> Tariff:
    """Return the part of a tariff that a task keeps: all that its execution and its bill need.

    `strategy` is that of the task's searches, or None if it does not search. The fees of other strategies are not kept.
    """
    kept = {name: value for name, value in tariff.items() if name not in _NOT_FROZEN}
    if strategy and "search" in tariff:
        kept |= {"search_fee": tariff["search"]["fees"][strategy], "search_tokens": tariff["search"]["tokens"]}
    return cast(Tariff, kept)


def is_retired(tariff: Tariff) -> bool:
    """Tell whether the provider has taken the model out of service: from 00:00 of `retires_on` on, in UTC+8."""
    today = datetime.fromtimestamp(clock.now(), _PROVIDERS_ZONE).date().isoformat()
    return "retires_on" in tariff and tariff["retires_on"] <= today


def thinks(tariff: Tariff) -> Thinking:
    """Tell whether the model thinks. In the first release, a thinking price or `always_thinks` told this."""
    if "thinking" in tariff:
        return tariff["thinking"]
    if tariff.get("always_thinks"):
        return "always"
    return "optional" if any("thinking" in tier for tier in tariff["tiers"]) else "never"


def can_think(tariff: Tariff) -> bool:
    """Tell whether the model can think, and so takes enable_thinking."""
    return thinks(tariff) != "never"


def compute_cost(tariff: Tariff, usage: Usage, *, thought: bool = False) -> int:
    """Return the whole credits for this usage, rounded up once.

    `thought`: the answer showed reasoning, even if the usage reports none. Cached input is billed at the tier's cached price, and
    never as more than the input that was reported. Each search is billed at the fee that the tariff froze.
    """
    tier = _tier(tariff, usage.input_tokens)
    cached = min(usage.cached_tokens, usage.input_tokens) if "cached" in tier else 0
    tokens = (usage.input_tokens - cached) * tier["input"] + cached * tier.get("cached", 0)
    tokens += usage.output_tokens * _output_price(tier, thinking=thought or usage.reasoning_tokens > 0)
    per = tariff.get("per", _FIRST_RELEASE)
    fees = usage.searches * tariff.get("search_fee", 0)
    return -(-(tokens * SEARCHES_PER_FEE + fees * per) // (per * SEARCHES_PER_FEE))


def compute_worst_cost(
    tariff: Tariff, input_tokens: int, output_tokens: int, *, thinking: bool, searches: int = 0
) -> int:
    """Return the most that a call can cost: its hold. Tiers only rise, so fewer input tokens never cost more."""
    return compute_cost(tariff, Usage(input_tokens, output_tokens, searches=searches), thought=thinking)


def compute_affordable_output(
    tariff: Tariff, credits: int, input_tokens: int, *, thinking: bool, searches: int = 0
) -> int:
    """Return the most output tokens (thinking included) that `credits` pay for after the input. It is negative if they do not."""
    tier = _tier(tariff, input_tokens)
    per = tariff.get("per", _FIRST_RELEASE)
    left = (credits * per - input_tokens * tier["input"]) * SEARCHES_PER_FEE - searches * tariff.get(
        "search_fee", 0
    ) * per
    return left // (SEARCHES_PER_FEE * _output_price(tier, thinking=thinking))


def find_tier(tariff: Tariff, input_tokens: int) -> int:
    """Return which tier a prompt of so many tokens is in: 0 for the cheapest."""
    return tariff["tiers"].index(_tier(tariff, input_tokens))


def _output_price(tier: Tier, *, thinking: bool) -> int:
    return tier.get("thinking", tier["output"]) if thinking else tier["output"]


def _tier(tariff: Tariff, input_tokens: int) -> Tier:
    for tier in tariff["tiers"]:
        if input_tokens <= tier["up_to"]:
            return tier
    return tariff["tiers"][-1]
