"""Estimates: the most that a task can cost, and the longest answer that the user's credits allow."""

from dataclasses import dataclass
from typing import Any

from aideer.billing import pricing
from aideer.billing.pricing import Strategy, Tariff
from aideer.core.errors import Detail, PaymentRequired, TooLarge

OVERRUN = 10
"""The most tokens by which an answer may exceed max_tokens (Alibaba Model Studio, "max_tokens")."""
SEARCHES = 1
"""Searches for one answer. The provider searches once, before it answers."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The hold (credits), the parameters that keep the answer within it, and the tariff for its bill."""

    input_tokens: int  # the most tokens of the prompt, with those that a search adds
    max_tokens: int
    hold: int
    parameters: dict[str, Any]
    tariff: Tariff


def estimate(tariff: Tariff, parameters: dict[str, Any], input_tokens: int, credits: int) -> Estimate:
    """Price the worst case of answering a prompt of at most `input_tokens` with a preset's parameters.

    max_tokens is reduced to the number that `credits` pay for. Raises TooLarge if the prompt may not fit the model. Raises
    PaymentRequired if the credits do not pay for SMALLEST_ANSWER tokens, or for fewer tokens if the preset asks for fewer.
    """
    call = {name: value for name, value in parameters.items() if value is not None and name != "model"}
    strategy = _search(call)
    tariff, searches = pricing.freeze(tariff, strategy), SEARCHES if strategy else 0
    input_tokens += tariff.get("search_tokens", 0)  # the search results become part of the prompt
    if input_tokens > tariff["max_input"]:
        raise TooLarge(
            "context_too_long",
            Detail(
                "The conversation is longer than the {tokens} tokens that the model takes.", tokens=tariff["max_input"]
            ),
        )
    thinking, budget = _think(tariff, call)
    wanted = min(call.pop("max_tokens", pricing.DEFAULT_MAX_TOKENS), tariff["max_output"])
    affordable = pricing.compute_affordable_output(tariff, credits, input_tokens, thinking=thinking, searches=searches)
    max_tokens = min(wanted, affordable - budget - OVERRUN)
    smallest = min(wanted, pricing.SMALLEST_ANSWER)
    if max_tokens < smallest:
        raise PaymentRequired(
            "insufficient_credits",
            "You have too few credits for an answer.",
            credits_left=credits,
            credits_needed=pricing.compute_worst_cost(
                tariff, input_tokens, budget + smallest + OVERRUN, thinking=thinking, searches=searches
            ),
        )
    if tariff.get("max_tokens_parameter") == "max_completion_tokens":
        call["max_completion_tokens"] = max_tokens + budget  # this parameter counts reasoning and answer together
    else:
        call["max_tokens"] = max_tokens
    hold = pricing.compute_worst_cost(
        tariff, input_tokens, max_tokens + budget + OVERRUN, thinking=thinking, searches=searches
    )
    return Estimate(input_tokens, max_tokens, hold, call, tariff)


def _search(call: dict[str, Any]) -> Strategy | None:
    """Complete the search options, and return the strategy that decides the fee. Return None if the call does not search."""
    options = call.pop("search_options", {})
    if not call.get("enable_search"):
        call.pop("enable_search", None)
        return None
    strategy: Strategy = options.get("search_strategy", "turbo")
    # The strategy is explicit, because the fee depends on it. The sources are for the reader.
    call["search_options"] = {**options, "search_strategy": strategy, "enable_source": True}
    return strategy


def _think(tariff: Tariff, call: dict[str, Any]) -> tuple[bool, int]:
    """Decide whether and how much the call thinks. Return (thinking, the most thinking tokens); max_tokens does not limit them.

    A budget above the model's own is reduced to it, because a preset may have been stored under another price table.
    """
    budget, effort = call.pop("thinking_budget", None), call.pop("reasoning_effort", None)
    mode = pricing.thinks(tariff)
    if mode == "never":
        call.pop("enable_thinking", None)
        return False, 0
    # Explicit in both cases, because models differ in their defaults.
    call["enable_thinking"] = mode == "always" or bool(call.get("enable_thinking"))
    if not call["enable_thinking"]:
        return False, 0
    if effort:
        call["reasoning_effort"] = effort
    if not tariff["thinking_budget"] or (effort and not budget):
        return True, tariff["max_thinking"]  # no parameter would hold the model to less
    call["thinking_budget"] = min(budget or pricing.DEFAULT_THINKING_BUDGET, tariff["max_thinking"])
    return True, call["thinking_budget"]
