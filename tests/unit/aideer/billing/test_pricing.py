"""What answers cost: whole credits, rounded up once, by the tier of the prompt."""

import itertools
import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.billing import pricing
from aideer.billing.estimates import OVERRUN, estimate
from aideer.core.errors import PaymentRequired, TooLarge
from aideer.core.usage import Usage

MODELS = [entry["model"] for entry in pricing.get_table()["models"]]
COSTS = json.loads((Path(__file__).parents[3] / "fixtures" / "release-0.1.0" / "costs.json").read_text())
STORED = list(COSTS["tariffs"].values())
"""The tariffs that tasks of the first release carry."""
CURRENT = [
    pricing.freeze(pricing.get_tariff(model), strategy) for model in MODELS for strategy in (None, "turbo", "max")
]
TARIFFS = st.sampled_from(CURRENT + STORED)
TOKENS = st.integers(0, 2_000_000)
USAGES = st.builds(Usage, TOKENS, TOKENS, TOKENS, TOKENS, st.integers(0, 5))
PLUS = pricing.get_tariff("qwen-plus")


def exact(tariff, usage, *, thought=False):
    """The cost before it is rounded, worked out anew from the table's definitions."""
    tier = next((t for t in tariff["tiers"] if usage.input_tokens <= t["up_to"]), tariff["tiers"][-1])
    cached = min(usage.cached_tokens, usage.input_tokens) if "cached" in tier else 0
    output = tier.get("thinking", tier["output"]) if thought or usage.reasoning_tokens else tier["output"]
    tokens = (
        (usage.input_tokens - cached) * tier["input"] + cached * tier.get("cached", 0) + usage.output_tokens * output
    )
    return Fraction(tokens, tariff.get("per", 1000)) + Fraction(usage.searches * tariff.get("search_fee", 0), 1000)


@pytest.mark.parametrize(
    ("usage", "credits"),
    [
        (Usage(0, 0), 0),
        (Usage(1, 0), 1),  # 0.008 of a credit
        (Usage(1000, 0), 8),
        (Usage(1000, 1000), 28),
        (Usage(1001, 1000), 29),
        (Usage(60, 26), 1),  # 0.48 and 0.52: rounded up once, not twice
        (Usage(60, 27), 2),
        (Usage(1000, 1000, 1), 88),  # an answer that thought pays the thinking price for all of its output
        (Usage(128_000, 1000), 1044),
        (Usage(128_001, 1000), 3273),  # the next tier, for all of it: 3072.024 + 200
        (Usage(256_001, 0), 12289),
        (Usage(2_000_000, 0), 96000),  # beyond the last tier: the last tier
        (Usage(20_000, 0, 0, 19_456), 36),  # 4.352 of it anew and 31.1296 from the cache
        (Usage(20_000, 0, 0, 20_000), 32),
        (Usage(128_001, 0, 0, 128_001), 615),  # what is cached still decides the tier
    ],
)
def test_what_qwen_plus_costs(usage, credits):
    assert pricing.compute_cost(PLUS, usage) == credits


def test_a_price_can_be_less_than_a_credit_for_a_thousand_tokens():
    flash = pricing.get_tariff("qwen-flash")
    assert pricing.compute_cost(flash, Usage(1_000_000, 0)) == 12_000  # of the last tier
    assert pricing.compute_cost(flash, Usage(100_000, 0)) == 150  # CNY 0.15 a million, and neither 0.10 nor 0.20


@pytest.mark.parametrize(("strategy", "credits"), [("turbo", 30), ("max", 40)])
def test_a_search_costs_the_fee_of_the_strategy_that_the_task_froze(strategy, credits):
    tariff = pricing.freeze(PLUS, strategy)
    assert pricing.compute_cost(tariff, Usage(searches=1)) == credits
    assert pricing.compute_cost(tariff, Usage(1000, 1000, searches=2)) == 28 + 2 * credits
    assert pricing.compute_cost(tariff, Usage(1000, 1000)) == 28


def test_a_task_that_did_not_ask_for_a_search_pays_for_none():
    assert pricing.compute_cost(pricing.freeze(PLUS, None), Usage(1000, 0, searches=3)) == 8


@given(st.sampled_from(STORED), USAGES, st.booleans())
def test_a_task_of_the_first_release_costs_what_it_cost_then(tariff, usage, thought):
    tier = next((t for t in tariff["tiers"] if usage.input_tokens <= t["up_to"]), tariff["tiers"][-1])
    output = tier.get("thinking", tier["output"]) if thought or usage.reasoning_tokens else tier["output"]
    then = -(-(usage.input_tokens * tier["input"] + usage.output_tokens * output) // 1000)
    assert pricing.compute_cost(tariff, usage, thought=thought) == then


@pytest.mark.parametrize("tariff", STORED, ids=lambda tariff: tariff["model"])
def test_a_tariff_of_the_first_release_says_as_then_whether_its_model_thinks(tariff):
    assert pricing.can_think(tariff) == any("thinking" in tier for tier in tariff["tiers"])
    assert (pricing.thinks(tariff) == "always") == tariff["always_thinks"]


@given(TARIFFS, TOKENS, TOKENS, st.integers(0, 10**9))
def test_more_cached_than_sent_never_costs_less_than_all_of_it_cached(tariff, input_tokens, output_tokens, cached):
    most = pricing.compute_cost(tariff, Usage(input_tokens, output_tokens, cached_tokens=input_tokens))
    assert (
        pricing.compute_cost(tariff, Usage(input_tokens, output_tokens, cached_tokens=input_tokens + cached))
        == most
        >= 0
    )


def test_a_model_without_a_thinking_price_bills_thinking_as_output():
    tariff = pricing.get_tariff("qwen-max")
    assert pricing.compute_cost(tariff, Usage(0, 1000, 500)) == pricing.compute_cost(tariff, Usage(0, 1000)) == 96


def test_a_model_without_a_price_has_no_tariff():
    assert pricing.get_tariff("no-such-model") is None
    assert pricing.get_tariff("") is None


def test_a_tariff_names_the_table_it_is_from():
    assert PLUS["version"] == pricing.get_table()["version"]


@pytest.mark.parametrize("tariff", CURRENT, ids=lambda tariff: tariff["model"])
def test_a_frozen_tariff_is_all_that_a_task_needs_and_small(tariff):
    assert {"model", "endpoint", "context", "tiers", "version", "per"} <= set(tariff)
    assert not {"confirm", "search", "retires_on"} & set(tariff)
    assert len(json.dumps(tariff)) < 1024


@given(TARIFFS, USAGES, st.booleans())
def test_a_cost_is_the_exact_price_rounded_up_by_less_than_one(tariff, usage, thought):
    assert 0 <= pricing.compute_cost(tariff, usage, thought=thought) - exact(tariff, usage, thought=thought) < 1


@given(TARIFFS, TOKENS, TOKENS, TOKENS, TOKENS, st.integers(0, 5), st.integers(0, 5))
def test_fewer_tokens_never_cost_more(tariff, a, b, c, d, e, f):
    less = Usage(min(a, b), min(c, d), searches=min(e, f))
    more = Usage(max(a, b), max(c, d), searches=max(e, f))
    assert pricing.compute_cost(tariff, less) <= pricing.compute_cost(tariff, more)


@given(TARIFFS, TOKENS, TOKENS, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_hold_covers_whatever_the_answer_turns_out_to_be(
    tariff, input_tokens, output_tokens, part, thought, cached, thinking
):
    reasoning = int(output_tokens * part * thought) if thinking and pricing.can_think(tariff) else 0
    read = int(input_tokens * part)
    usage = Usage(read, int(output_tokens * part), reasoning, int(read * cached), searches=round(part))
    worst = pricing.compute_worst_cost(tariff, input_tokens, output_tokens, thinking=thinking, searches=1)
    assert pricing.compute_cost(tariff, usage) <= worst


@given(TARIFFS, st.integers(0, 10**9), TOKENS, st.booleans(), st.integers(0, 2))
def test_what_is_affordable_is_affordable_and_one_more_is_not(tariff, credits, input_tokens, thinking, searches):
    def worst(output_tokens):
        return pricing.compute_worst_cost(
            tariff, input_tokens, output_tokens, thinking=thinking and output_tokens > 0, searches=searches
        )

    most = pricing.compute_affordable_output(tariff, credits, input_tokens, thinking=thinking, searches=searches)
    if most >= 0:
        assert worst(most) <= credits < worst(most + 1)
    else:
        assert worst(0) > credits


@given(TARIFFS, TOKENS, TOKENS)
def test_whoever_showed_reasoning_has_thought(tariff, input_tokens, output_tokens):
    told, shown = Usage(input_tokens, output_tokens, 1), Usage(input_tokens, output_tokens)
    assert pricing.compute_cost(tariff, shown, thought=True) == pricing.compute_cost(tariff, told)


AVAILABLE = [model for model in MODELS if not pricing.is_retired(pricing.get_tariff(model))]
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 10**6),
        "enable_search": st.booleans(),
        "search_options": st.sampled_from([{}, {"search_strategy": "max"}, {"search_strategy": "turbo"}]),
        "enable_thinking": st.booleans(),
        "thinking_budget": st.integers(1, 10**6),
        "reasoning_effort": st.sampled_from(["low", "high", "max"]),
    },
)


@given(st.sampled_from(MODELS), PARAMETERS, st.integers(0, 900_000), st.integers(0, 10**7), st.data())
def test_a_hold_covers_all_that_the_call_lets_the_provider_do(model, parameters, input_tokens, credits, data):
    tariff = pricing.get_tariff(model)
    if parameters.get("enable_search") and "search" not in tariff:
        del parameters["enable_search"]
    try:
        accepted = estimate(tariff, parameters, input_tokens, credits)
    except (PaymentRequired, TooLarge):
        return
    call = accepted.parameters
    assert accepted.hold <= credits
    thinking = call.get("enable_thinking", False)
    budget = call.get("thinking_budget", tariff.get("max_thinking", 0)) if thinking else 0
    output = call.get("max_tokens", 0) + OVERRUN + budget
    used = Usage(
        data.draw(st.integers(0, accepted.input_tokens)),
        data.draw(st.integers(0, output)),
        searches=int(call.get("enable_search", False)),
    )
    assert pricing.compute_cost(accepted.tariff, used, thought=thinking) <= accepted.hold


def test_a_budget_is_relied_on_only_where_the_model_keeps_it():
    kept = estimate(PLUS, {"enable_thinking": True, "thinking_budget": 100}, 10, 10**9)
    assert kept.parameters["thinking_budget"] == 100
    ignoring = {**PLUS, "thinking_budget": False}
    ignored = estimate(ignoring, {"enable_thinking": True, "thinking_budget": 100}, 10, 10**9)
    assert "thinking_budget" not in ignored.parameters
    worst = Usage(10, ignored.max_tokens + OVERRUN + PLUS["max_thinking"])
    assert ignored.hold == pricing.compute_cost(ignored.tariff, worst, thought=True)


def test_a_stored_budget_above_the_models_own_is_cut_to_it():
    accepted = estimate(
        pricing.get_tariff("deepseek-v4-flash"), {"enable_thinking": True, "thinking_budget": 81_920}, 10, 10**9
    )
    assert accepted.parameters["thinking_budget"] == 32_768


def test_the_name_of_max_tokens_is_the_tables():
    renamed = {**PLUS, "max_tokens_parameter": "max_completion_tokens"}
    plain = estimate(renamed, {"max_tokens": 100}, 10, 10**9)
    assert plain.parameters["max_completion_tokens"] == plain.max_tokens == 100
    assert "max_tokens" not in plain.parameters
    thinking = estimate(renamed, {"max_tokens": 100, "enable_thinking": True, "thinking_budget": 50}, 10, 10**9)
    assert thinking.parameters["max_completion_tokens"] == 150  # it counts reasoning too


@pytest.mark.parametrize(("options", "strategy"), [({}, "turbo"), ({"search_strategy": "max"}, "max")])
def test_what_a_search_puts_into_the_prompt_and_its_fee_are_within_the_hold(options, strategy):
    plain = estimate(PLUS, {"max_tokens": 64}, 100, 10**9)
    searching = estimate(PLUS, {"max_tokens": 64, "enable_search": True, "search_options": options}, 100, 10**9)
    assert searching.input_tokens == plain.input_tokens + PLUS["search"]["tokens"]
    assert searching.hold == pricing.compute_cost(
        searching.tariff, Usage(searching.input_tokens, 64 + OVERRUN, searches=1)
    )
    assert searching.tariff["search_fee"] == PLUS["search"]["fees"][strategy]
    sent = searching.parameters["search_options"]
    assert sent == {**options, "search_strategy": strategy, "enable_source": True}


def test_the_tiers_of_the_table_only_rise():
    for tariff in CURRENT:
        for lower, higher in itertools.pairwise(tariff["tiers"]):
            assert all(lower[name] <= higher[name] for name in lower)


def test_a_model_retires_with_the_day_of_its_provider(monkeypatch):
    tariff = {**PLUS, "retires_on": "2026-10-10"}
    monkeypatch.setattr(pricing.clock, "now", lambda: 1791561599.0)  # 2026-10-09 23:59:59 in UTC+8
    assert not pricing.is_retired(tariff)
    monkeypatch.setattr(pricing.clock, "now", lambda: 1791561600.0)
    assert pricing.is_retired(tariff)
    assert not pricing.is_retired(PLUS)
