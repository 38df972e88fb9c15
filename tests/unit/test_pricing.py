"""What answers cost: whole credits, rounded up once, by the tier of the prompt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer import pricing
from aideer.offers import offer
from aideer.usage import Usage

MODELS = [entry["model"] for entry in pricing.table()["models"]]
TARIFFS = st.sampled_from(MODELS).map(pricing.tariff)
TOKENS = st.integers(0, 2_000_000)
PLUS = pricing.tariff("qwen-plus")


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
    ],
)
def test_what_qwen_plus_costs(usage, credits):
    assert pricing.cost(PLUS, usage) == credits


def test_a_model_without_a_thinking_price_bills_thinking_as_output():
    tariff = pricing.tariff("qwen-max")
    assert pricing.cost(tariff, Usage(0, 1000, 500)) == pricing.cost(tariff, Usage(0, 1000)) == 96


def test_a_model_without_a_price_has_no_tariff():
    assert pricing.tariff("no-such-model") is None
    assert pricing.tariff("") is None


def test_a_tariff_names_the_table_it_is_from():
    assert PLUS["version"] == pricing.table()["version"]


@pytest.mark.parametrize("model", MODELS)
def test_the_table_holds_what_the_rest_relies_on(model):
    tariff = pricing.tariff(model)
    assert MODELS.count(model) == 1
    assert tariff["endpoint"] in ("text", "multimodal")
    assert 0 < tariff["max_output"] <= tariff["context"]
    limits = [tier["up_to"] for tier in tariff["tiers"]]
    assert limits == sorted(set(limits))
    assert limits[-1] >= tariff["context"]
    for tier in tariff["tiers"]:
        assert all(type(price) is int and price > 0 for price in tier.values())
        assert tier.get("thinking", tier["output"]) >= tier["output"]
    for lower, higher in zip(tariff["tiers"], tariff["tiers"][1:], strict=False):
        assert set(lower) == set(higher)
        assert all(lower[name] <= higher[name] for name in lower)
    assert pricing.can_think(tariff) == all("thinking" in tier for tier in tariff["tiers"])


@given(TARIFFS, TOKENS, TOKENS, st.integers(0, 2_000_000))
def test_a_cost_is_the_exact_price_rounded_up_by_less_than_one(tariff, input_tokens, output_tokens, reasoning):
    usage = Usage(input_tokens, output_tokens, min(reasoning, output_tokens))
    tier = next((t for t in tariff["tiers"] if input_tokens <= t["up_to"]), tariff["tiers"][-1])
    price = tier.get("thinking", tier["output"]) if usage.reasoning_tokens else tier["output"]
    thousandths = input_tokens * tier["input"] + output_tokens * price
    assert 0 <= pricing.cost(tariff, usage) * 1000 - thousandths < 1000


@given(TARIFFS, TOKENS, TOKENS, TOKENS, TOKENS)
def test_fewer_tokens_never_cost_more(tariff, a, b, c, d):
    less, more = Usage(min(a, b), min(c, d)), Usage(max(a, b), max(c, d))
    assert pricing.cost(tariff, less) <= pricing.cost(tariff, more)


@given(TARIFFS, TOKENS, TOKENS, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_a_hold_covers_whatever_the_answer_turns_out_to_be(
    tariff, input_tokens, output_tokens, part, thought, thinking
):
    reasoning = int(output_tokens * part * thought) if thinking and pricing.can_think(tariff) else 0
    usage = Usage(int(input_tokens * part), int(output_tokens * part), reasoning)
    assert pricing.cost(tariff, usage) <= pricing.worst_cost(tariff, input_tokens, output_tokens, thinking=thinking)


@given(TARIFFS, st.integers(0, 10**9), TOKENS, st.booleans())
def test_what_is_affordable_is_affordable_and_one_more_is_not(tariff, credits, input_tokens, thinking):
    most = pricing.affordable_output(tariff, credits, input_tokens, thinking=thinking)
    if most >= 0:
        assert pricing.worst_cost(tariff, input_tokens, most, thinking=thinking and most > 0) <= credits
        assert pricing.worst_cost(tariff, input_tokens, most + 1, thinking=thinking) > credits
    else:
        assert pricing.worst_cost(tariff, input_tokens, 0, thinking=thinking) > credits


@given(TARIFFS, TOKENS, TOKENS)
def test_whoever_showed_reasoning_has_thought(tariff, input_tokens, output_tokens):
    told, shown = Usage(input_tokens, output_tokens, 1), Usage(input_tokens, output_tokens)
    assert pricing.cost(tariff, shown, thought=True) == pricing.cost(tariff, told)


@pytest.mark.parametrize("model", MODELS)
def test_what_a_search_puts_into_the_prompt_is_within_the_hold(model):
    tariff = pricing.tariff(model)
    plain = offer(tariff, {"max_tokens": 64}, ["What is new?"], 10**9)
    searching = offer(tariff, {"max_tokens": 64, "enable_search": True}, ["What is new?"], 10**9)
    assert searching.input_tokens == plain.input_tokens + tariff["search_tokens"]
    thinking = tariff["always_thinks"]
    budget = searching.parameters.get("thinking_budget", 0)
    assert searching.hold == pricing.worst_cost(tariff, searching.input_tokens, 64 + budget, thinking=thinking)


@given(st.lists(st.text()))
def test_an_estimate_is_at_least_a_token_a_byte(contents):
    assert pricing.estimate_input(contents) == sum(len(text.encode("utf-8")) + 16 for text in contents)
