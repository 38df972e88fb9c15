"""What an answer costs. 1 credit = 0.0001 CNY; amounts are whole credits; prices are credits per 1,000 tokens.

Prices are data (prices.json) that an operator edits; each edit raises its version, and every task freezes the tariff that
it was accepted under, so an edit never changes what a running answer costs.

Where a model has a `thinking` price, an answer that thought pays it for all of its output, and one that did not pays
`output` (Alibaba Model Studio, "Billing for text generation models": thinking mode prices chain of thought and answer alike).
Whether it thought is told by what it showed: the provider's own samples report no reasoning tokens where there was reasoning.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

from aideer.usage import Usage

SMALLEST_ANSWER = 16
"""Tokens. A hold that pays for less than this is refused."""
DEFAULT_MAX_TOKENS = 2048
DEFAULT_THINKING_BUDGET = 4096
_MESSAGE_OVERHEAD = 16


class Tier(TypedDict):
    """Prices for prompts of up to `up_to` tokens."""

    up_to: int
    input: int
    output: int
    thinking: NotRequired[int]


class Tariff(TypedDict):
    """One model's prices and limits, with the version of the table that they are from."""

    model: str
    endpoint: Literal["text", "multimodal"]
    context: int
    max_output: int
    vision: bool
    image_tokens: NotRequired[int]  # the most that one image can be
    search_tokens: NotRequired[int]  # the most that enable_search adds to a prompt; a model without it does not search
    always_thinks: bool
    tiers: list[Tier]
    version: str


@functools.cache
def table() -> dict[str, Any]:
    """prices.json: {version, models: [...]}."""
    loaded: dict[str, Any] = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    return loaded


def tariff(model: str) -> Tariff | None:
    """The current tariff of a model, or None where it has no price and so cannot be used."""
    for entry in table()["models"]:
        if entry["model"] == model:
            return cast(Tariff, {"always_thinks": False, **entry, "version": table()["version"]})
    return None


def can_think(tariff: Tariff) -> bool:
    """Whether the model has a thinking price, and so takes enable_thinking and thinking_budget."""
    return any("thinking" in tier for tier in tariff["tiers"])


def estimate_input(contents: Iterable[str]) -> int:
    """The most tokens that these messages can be: a token is at least one byte, plus what wraps each message."""
    return sum(len(content.encode()) + _MESSAGE_OVERHEAD for content in contents)


def estimate_images(tariff: Tariff, images: int) -> int:
    """The most tokens that so many images can be."""
    return images * (tariff.get("image_tokens", 0) + _MESSAGE_OVERHEAD)


def cost(tariff: Tariff, usage: Usage, *, thought: bool = False) -> int:
    """Whole credits for this usage, rounded up once. `thought`: the answer showed reasoning, whatever the usage says of it."""
    tier = _tier(tariff, usage.input_tokens)
    output_price = tier.get("thinking", tier["output"]) if thought or usage.reasoning_tokens else tier["output"]
    return -(-(usage.input_tokens * tier["input"] + usage.output_tokens * output_price) // 1000)


def worst_cost(tariff: Tariff, input_tokens: int, output_tokens: int, *, thinking: bool) -> int:
    """The most that a call can cost: its hold. Tiers only rise, so fewer input tokens never cost more."""
    return cost(tariff, Usage(input_tokens, output_tokens), thought=thinking)


def affordable_output(tariff: Tariff, credits: int, input_tokens: int, *, thinking: bool) -> int:
    """The most output tokens (thinking included) that `credits` pay for after the input; negative where none."""
    tier = _tier(tariff, input_tokens)
    price = tier.get("thinking", tier["output"]) if thinking else tier["output"]
    return (credits * 1000 - input_tokens * tier["input"]) // price


def _tier(tariff: Tariff, input_tokens: int) -> Tier:
    for tier in tariff["tiers"]:
        if input_tokens <= tier["up_to"]:
            return tier
    return tariff["tiers"][-1]
