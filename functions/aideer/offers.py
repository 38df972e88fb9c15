"""What a task may cost at most, and how long its answer may get for the credits that are there."""

from dataclasses import dataclass
from typing import Any

from aideer import pricing
from aideer.errors import PaymentRequired, TooLarge
from aideer.pricing import Strategy, Tariff

OVERRUN = 10
"""Tokens by which an answer may exceed max_tokens (Alibaba Model Studio, "max_tokens")."""
SEARCHES = 1
"""Searches for one answer. The provider makes one before it answers."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The hold (credits), the parameters that keep the answer within it, and the tariff that it will be billed by."""

    input_tokens: int  # the most that the prompt can be, with what a search adds
    max_tokens: int
    hold: int
    parameters: dict[str, Any]
    tariff: Tariff


def offer(tariff: Tariff, parameters: dict[str, Any], input_tokens: int, credits: int) -> Offer:
    """Price the worst case of answering a prompt of at most `input_tokens` with a preset's parameters.

    max_tokens shrinks to what `credits` pay for. Raises TooLarge where the prompt may not fit the model, and PaymentRequired where
    less than SMALLEST_ANSWER tokens (or than the preset asks for, if that is less) can be paid.
    """
    call = {name: value for name, value in parameters.items() if value is not None and name != "model"}
    strategy = _search(call)
    tariff, searches = pricing.frozen(tariff, strategy), SEARCHES if strategy else 0
    input_tokens += tariff.get("search_tokens", 0)  # what was found becomes part of the prompt
    if input_tokens > tariff["max_input"]:
        raise TooLarge(
            "context_too_long",
            f"The conversation is longer than the {tariff['max_input']} tokens that the model takes.",
        )
    thinking, budget = _think(tariff, call)
    wanted = min(call.pop("max_tokens", pricing.DEFAULT_MAX_TOKENS), tariff["max_output"])
    affordable = pricing.affordable_output(tariff, credits, input_tokens, thinking=thinking, searches=searches)
    max_tokens = min(wanted, affordable - budget - OVERRUN)
    smallest = min(wanted, pricing.SMALLEST_ANSWER)
    if max_tokens < smallest:
        raise PaymentRequired(
            "insufficient_credits",
            "There are not enough credits for an answer.",
            credits_left=credits,
            credits_needed=pricing.worst_cost(
                tariff, input_tokens, budget + smallest + OVERRUN, thinking=thinking, searches=searches
            ),
        )
    if tariff.get("max_tokens_parameter") == "max_completion_tokens":
        call["max_completion_tokens"] = max_tokens + budget  # this one counts reasoning and answer together
    else:
        call["max_tokens"] = max_tokens
    hold = pricing.worst_cost(tariff, input_tokens, max_tokens + budget + OVERRUN, thinking=thinking, searches=searches)
    return Offer(input_tokens, max_tokens, hold, call, tariff)


def _search(call: dict[str, Any]) -> Strategy | None:
    """Complete the search's options, and return the strategy that decides its fee; None if the call does not search."""
    options = call.pop("search_options", {})
    if not call.get("enable_search"):
        call.pop("enable_search", None)
        return None
    strategy: Strategy = options.get("search_strategy", "turbo")
    # The strategy is said explicitly, because the fee depends on it; the sources are what the reader is shown.
    call["search_options"] = {**options, "search_strategy": strategy, "enable_source": True}
    return strategy


def _think(tariff: Tariff, call: dict[str, Any]) -> tuple[bool, int]:
    """Settle whether and how much the call thinks. Return (thinking, the most tokens of it); max_tokens does not bound them.

    A budget above the model's own is cut to it: a preset may have been stored under another table.
    """
    budget, effort = call.pop("thinking_budget", None), call.pop("reasoning_effort", None)
    mode = pricing.thinking(tariff)
    if mode == "never":
        call.pop("enable_thinking", None)
        return False, 0
    # Said explicitly either way: models differ in what they do when nothing is said.
    call["enable_thinking"] = mode == "always" or bool(call.get("enable_thinking"))
    if not call["enable_thinking"]:
        return False, 0
    if effort:
        call["reasoning_effort"] = effort
    if not tariff["thinking_budget"] or (effort and not budget):
        return True, tariff["max_thinking"]  # nothing that we could send would hold the model to less
    call["thinking_budget"] = min(budget or pricing.DEFAULT_THINKING_BUDGET, tariff["max_thinking"])
    return True, call["thinking_budget"]
