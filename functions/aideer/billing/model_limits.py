"""Model limits from the price table, and the refusal of parameters that exceed them.

A new preset must be within all limits. A stored preset may have been accepted under another price table. Then estimates.py
reduces its numbers to the model's limits. An ability that the model lacks is refused before the provider would refuse it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from aideer.billing import pricing
from aideer.billing.pricing import Tariff
from aideer.core.errors import Detail, Unprocessable


def require_available(model: str) -> Tariff:
    """Return the tariff of a model that can be used now. Raises Unprocessable if the model has none, or is retired."""
    tariff = pricing.get_tariff(model)
    if tariff is None:
        raise Unprocessable("model_not_priced", "This model is not in the price table, so it cannot be used.")
    if pricing.is_retired(tariff):
        raise Unprocessable(
            "model_retired",
            Detail("The provider has retired the model {model} on {day}.", model=model, day=tariff["retires_on"]),
            model=model,
        )
    return tariff


def require_abilities(tariff: Tariff, parameters: Mapping[str, Any]) -> None:
    """Raise Unprocessable if the parameters need an ability that the model lacks."""
    model, mode = tariff["model"], pricing.thinks(tariff)
    if mode == "never" and (parameters.get("enable_thinking") or parameters.get("thinking_budget")):
        raise Unprocessable("thinking_not_supported", Detail("The model {model} does not think.", model=model))
    if parameters.get("enable_search") and "search" not in tariff:
        raise Unprocessable("search_not_supported", Detail("The model {model} does not search.", model=model))
    if effort := parameters.get("reasoning_effort"):
        _require_effort(tariff, effort, parameters)
    if form := parameters.get("response_format"):
        if form["type"] not in tariff.get("structured_output", []):
            raise Unprocessable(
                "response_format_not_supported",
                Detail("The model {model} does not answer as {type}.", model=model, type=form["type"]),
            )
        if mode == "always" or parameters.get("enable_thinking"):
            raise Unprocessable("response_format_with_thinking", "A response_format needs thinking to be off.")


def require_ranges(tariff: Tariff, parameters: Mapping[str, Any]) -> None:
    """Raise Unprocessable if a new preset's parameters exceed the model's limits."""
    model = tariff["model"]
    if (parameters.get("max_tokens") or 0) > tariff["max_output"]:
        raise Unprocessable(
            "max_tokens_too_large",
            Detail("The model {model} answers in at most {tokens} tokens.", model=model, tokens=tariff["max_output"]),
        )
    if pricing.thinks(tariff) == "always" and parameters.get("enable_thinking") is False:
        raise Unprocessable("thinking_always", Detail("The model {model} always thinks.", model=model))
    if (budget := parameters.get("thinking_budget") or 0) and not tariff["thinking_budget"]:
        raise Unprocessable(
            "thinking_budget_not_supported",
            Detail("The model {model} does not keep within a thinking_budget.", model=model),
        )
    if budget and budget > tariff["max_thinking"]:
        raise Unprocessable(
            "thinking_budget_too_large",
            Detail("The model {model} thinks in at most {tokens} tokens.", model=model, tokens=tariff["max_thinking"]),
        )
    if parameters.get("search_options") is not None and not parameters.get("enable_search"):
        raise Unprocessable("search_not_enabled", "search_options need enable_search.")


def require_json_word(parameters: Mapping[str, Any], messages: Iterable[Mapping[str, Any]]) -> None:
    """Raise Unprocessable if a preset asks for a JSON object, and none of its messages has the word JSON.

    The provider refuses such a prompt. Every prompt has the preset's own messages, so checking these once is enough.
    """
    if (parameters.get("response_format") or {}).get("type") != "json_object":
        return
    if not any(message["type"] == "text" and "json" in message["content"].lower() for message in messages):
        raise Unprocessable("json_not_mentioned", "One of the preset's messages must contain the word JSON.")


def _require_effort(tariff: Tariff, effort: str, parameters: Mapping[str, Any]) -> None:
    model, efforts = tariff["model"], tariff.get("reasoning_effort", [])
    if not efforts:
        raise Unprocessable(
            "reasoning_effort_not_supported",
            Detail("The model {model} takes no reasoning_effort {effort}.", model=model, effort=effort),
        )
    if effort not in efforts:
        raise Unprocessable(
            "reasoning_effort_not_supported",
            Detail(
                "The model {model} takes no reasoning_effort {effort}. It takes {efforts}.",
                model=model,
                effort=effort,
                efforts=efforts,
            ),
        )
    if pricing.thinks(tariff) == "optional" and not parameters.get("enable_thinking"):
        raise Unprocessable("reasoning_effort_without_thinking", "A reasoning_effort needs enable_thinking.")
    if parameters.get("thinking_budget") and not tariff.get("effort_with_budget"):
        raise Unprocessable(
            "reasoning_effort_with_budget",
            Detail("The model {model} takes reasoning_effort or thinking_budget, not both.", model=model),
        )
