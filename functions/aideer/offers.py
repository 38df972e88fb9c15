"""What a task may cost at most, and how long its answer may get for the credits that are there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aideer import pricing
from aideer.errors import PaymentRequired, TooLarge
from aideer.pricing import Tariff


@dataclass(frozen=True, slots=True)
class Offer:
    """The hold (credits), and the parameters that keep the answer within it."""

    input_tokens: int  # the most that the prompt can be
    max_tokens: int
    hold: int
    parameters: dict[str, Any]


def offer(
    tariff: Tariff, parameters: dict[str, Any], contents: Sequence[str], credits: int, *, images: int = 0
) -> Offer:
    """Price the worst case of answering these texts and so many images with a preset's parameters.

    max_tokens shrinks to what `credits` pay for. Raises TooLarge where the prompt may not fit the model, and PaymentRequired
    where less than SMALLEST_ANSWER tokens (or than the preset asks for, if that is less) can be paid.
    """
    input_tokens = pricing.estimate_input(contents) + pricing.estimate_images(tariff, images)
    if parameters.get("enable_search"):
        input_tokens += tariff.get("search_tokens", 0)  # what was found becomes part of the prompt
    if input_tokens + pricing.SMALLEST_ANSWER > tariff["context"]:
        raise TooLarge(
            "context_too_long", f"The conversation is longer than the {tariff['context']} tokens of the model."
        )
    call = {name: value for name, value in parameters.items() if value is not None and name != "model"}
    wanted = min(call.get("max_tokens", pricing.DEFAULT_MAX_TOKENS), tariff["max_output"])
    thinking, budget = False, 0
    if pricing.can_think(tariff):
        # Said explicitly either way: models differ in what they do when nothing is said. max_tokens does not bound thinking.
        thinking = tariff["always_thinks"] or bool(call.get("enable_thinking"))
        call["enable_thinking"] = thinking
        budget = call.pop("thinking_budget", pricing.DEFAULT_THINKING_BUDGET) if thinking else 0
        if thinking:
            call["thinking_budget"] = budget
        else:
            call.pop("thinking_budget", None)
    affordable = pricing.affordable_output(tariff, credits, input_tokens, thinking=thinking) - budget
    max_tokens = min(wanted, affordable)
    if max_tokens < min(wanted, pricing.SMALLEST_ANSWER):
        smallest = budget + min(wanted, pricing.SMALLEST_ANSWER)
        needed = pricing.worst_cost(tariff, input_tokens, smallest, thinking=thinking)
        raise PaymentRequired(
            "insufficient_credits",
            "There are not enough credits for an answer.",
            credits_left=credits,
            credits_needed=needed,
        )
    call["max_tokens"] = max_tokens
    hold = pricing.worst_cost(tariff, input_tokens, max_tokens + budget, thinking=thinking)
    return Offer(input_tokens, max_tokens, hold, call)
