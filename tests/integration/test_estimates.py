"""What a hold is: by bytes where that is enough, by the model's own vocabulary where it decides, and within bounds."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from aideer.billing import pricing, uncovered
from aideer.core import clock
from aideer.data.models import Message, Task
from aideer.data.transactions import Transaction
from aideer.prompts import tokenizer
from aideer.security import rate_limits
from aideer.security.limits import Limit
from aideer.tasks import executor
from tests.support import Answer, Api, Person, check_rules, in_loop, make_chat

MakePerson = Callable[..., Person]
ENGLISH = "The quick brown deer jumps over the lazy fox, and nobody in the whole forest is surprised any more. "
LONG = ENGLISH * 1970  # 197,000 bytes


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of each prompt whose tokens are counted."""
    noted: list[int] = []
    count = tokenizer.count

    def noting(texts: list[str], *rest: Any) -> int:
        noted.append(sum(len(text.encode()) for text in texts))
        return count(texts, *rest)

    monkeypatch.setattr(tokenizer, "count", noting)
    return noted


def create(api: Api, person: Person, chat_id: str) -> Answer:
    return api("tasks.create", "POST", "/tasks", json={"chat_id": chat_id, "stream": False}, user=person)


def quote(api: Api, person: Person, chat_id: str) -> Answer:
    return api("tasks.quote", "POST", "/tasks/quote", json={"chat_id": chat_id}, user=person)


def test_a_short_prompt_is_never_counted(api: Api, person: MakePerson, counts: list[int]) -> None:
    me = person()
    chat = make_chat(me, "hello", ENGLISH * 100)
    assert quote(api, me, chat.id).status == create(api, me, chat.id).status == 200
    assert counts == []


def test_credits_that_suffice_are_enough_whatever_the_bytes_say(
    api: Api, person: MakePerson, counts: list[int]
) -> None:
    me = person(credits=8_400)
    chat = make_chat(me, LONG, LONG, parameters={"max_tokens": 1000})
    quoted = quote(api, me, chat.id).json
    assert (quoted["affordable"], quoted["max_tokens"]) == (True, 1000)
    assert quoted["credits_at_most"] < 1_000
    answer = create(api, me, chat.id)
    assert (answer.status, answer.json["credits_held"]) == (200, quoted["credits_at_most"])
    assert len(counts) == 2
    task = Task.get(answer.json["task_id"], consistent_read=True)
    in_loop(executor.execute(task.id, clock.now() + 60))
    assert Task.get(task.id, consistent_read=True).status == "finished"
    check_rules(me)


def test_a_prompt_that_fits_is_answered_whatever_its_bytes_say(api: Api, person: MakePerson, counts: list[int]) -> None:
    me = person()
    chat = make_chat(me, ENGLISH * 1000, parameters={"model": "qwen-max"})  # 100,000 bytes for a model of 30,720 tokens
    assert create(api, me, chat.id).status == 200
    assert len(counts) == 1


def test_an_answer_is_made_again_at_the_price_of_its_tokens(api: Api, person: MakePerson, counts: list[int]) -> None:
    me = person()
    chat = make_chat(me, ENGLISH * 1000, parameters={"model": "qwen-max"})
    first = create(api, me, chat.id).json
    in_loop(executor.execute(first["task_id"], clock.now() + 60))
    counts.clear()
    again = api("tasks.regenerate", "POST", f"/tasks/{first['task_id']}/regenerate", user=me)
    assert (again.status, again.json["credits_held"]) == (200, first["credits_held"])
    assert len(counts) == 1


def test_the_schema_of_an_answer_is_part_of_its_hold(api: Api, person: MakePerson) -> None:
    me = person()
    schema = {"properties": {f"field_{n}": {"type": "string", "description": "deer " * 20} for n in range(80)}}
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}
    with_schema = quote(api, me, make_chat(me, "hello", parameters={"max_tokens": 1, "response_format": form}).id).json
    plain = quote(api, me, make_chat(me, "hello", parameters={"max_tokens": 1}).id).json
    assert with_schema["input_tokens"] - plain["input_tokens"] >= len(json.dumps(form["json_schema"])) - 10


def test_a_prompt_that_does_not_fit_is_refused_by_its_tokens(api: Api, person: MakePerson, counts: list[int]) -> None:
    me = person()
    chat = make_chat(me, ENGLISH * 1800, parameters={"model": "qwen-max"})
    for answer in (quote(api, me, chat.id), create(api, me, chat.id)):
        assert (answer.status, answer.json["code"]) == (413, "context_too_long")
    assert len(counts) == 2


def test_a_model_whose_vocabulary_is_not_known_is_priced_by_bytes(
    api: Api, person: MakePerson, counts: list[int]
) -> None:
    me = person()
    chat = make_chat(me, LONG, parameters={"model": "qwen3.7-plus", "max_tokens": 100})
    assert quote(api, me, chat.id).json["input_tokens"] > len(LONG)
    assert counts == []


def test_who_counts_too_often_is_priced_by_bytes_for_a_while(
    api: Api, person: MakePerson, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(rate_limits.LIMITS, "estimate", Limit(2, 3600))
    me, other = person(), person()
    chat = make_chat(me, ENGLISH * 1000, parameters={"model": "qwen-max"})
    assert [quote(api, me, chat.id).status for _ in range(4)] == [200, 200, 413, 413]
    assert len(counts) == 2
    theirs = make_chat(other, ENGLISH * 1000, parameters={"model": "qwen-max"})
    assert quote(api, other, theirs.id).status == 200


def test_a_user_whose_answer_cost_more_than_its_hold_is_priced_by_bytes_for_a_day(
    api: Api, person: MakePerson, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    chat = make_chat(me, ENGLISH * 1000, parameters={"model": "qwen-max"})
    transaction = Transaction()
    uncovered.count(transaction, me.id, uncovered.HOLD_EXCEEDED, 1, clock.now())
    transaction.commit()
    assert quote(api, me, chat.id).status == 413
    assert counts == []
    tomorrow, after = clock.now() + 86400, clock.now() + 2 * 86400
    monkeypatch.setattr(uncovered.clock, "now", lambda: tomorrow)
    assert uncovered.had_shortfall(me.id)
    monkeypatch.setattr(uncovered.clock, "now", lambda: after)
    assert not uncovered.had_shortfall(me.id)


def test_a_dearer_tier_is_reached_by_tokens_and_not_by_bytes(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, LONG, parameters={"max_tokens": 100})
    quoted = quote(api, me, chat.id).json
    assert quoted["input_tokens"] < 128_000
    [tier, *_] = (pricing.get_tariff("qwen-plus") or {"tiers": []})["tiers"]
    assert quoted["credits_at_most"] <= (quoted["input_tokens"] * tier["input"] + 110 * tier["output"]) // 10**6 + 1


def test_a_task_on_a_retired_model_is_refused_and_its_chat_stays(api: Api, person: MakePerson) -> None:
    me = person()
    chat = make_chat(me, "hello", parameters={"model": "qwq-plus"})
    for answer in (quote(api, me, chat.id), create(api, me, chat.id)):
        assert (answer.status, answer.json["code"]) == (422, "model_retired")
        assert "qwq-plus" in answer.json["detail"]
        assert "2026-10-10" in answer.json["detail"]
    assert list(Message.query(chat.thread, consistent_read=True))
    check_rules(me)


def test_a_stored_preset_that_the_table_would_refuse_today_is_cut_or_refused_here(api: Api, person: MakePerson) -> None:
    """Not by the provider: it was accepted under another table."""
    me = person()
    thinking = {"model": "deepseek-v4-flash", "enable_thinking": True, "thinking_budget": 81_920, "max_tokens": 10**6}
    answer = create(api, me, make_chat(me, "hello", parameters=thinking).id)
    task = Task.get(answer.json["task_id"], consistent_read=True)
    assert (task.parameters["thinking_budget"], task.parameters["max_tokens"]) == (32_768, 65_536)
    refused = create(api, me, make_chat(me, "hello", parameters={"model": "glm-5.2", "enable_search": True}).id)
    assert (refused.status, refused.json["code"]) == (422, "search_not_supported")


def test_a_task_keeps_the_fee_of_its_own_searches(api: Api, person: MakePerson) -> None:
    me = person()
    options = {"enable_search": True, "search_options": {"search_strategy": "max", "forced_search": True}}
    with_search = create(api, me, make_chat(me, "hello", parameters=options).id).json
    task = Task.get(with_search["task_id"], consistent_read=True)
    assert task.tariff["search_fee"] == 40_000
    assert task.parameters["search_options"] == {
        **options["search_options"],  # type: ignore[dict-item]
        "enable_source": True,
    }
    without = Task.get(create(api, me, make_chat(me, "hello").id).json["task_id"], consistent_read=True)
    assert "search_fee" not in without.tariff
    assert task.hold >= without.hold + 40
