"""`make bench`: how what was received becomes figures."""

from unittest.mock import Mock

import pytest

from local.bench import figures
from local.bench.answers import Answer, split_events
from local.bench.calls import ASKED, COMPLETED, OPENED, QUEUED, READ
from local.bench.figures import Case
from local.bench.memory import Memory
from local.bench.ways import COMPATIBLE, LITELLM, LITELLM_BEFORE, SDK, SDK_COMPATIBLE, STRAIGHT, Way


def answer(*arrivals: tuple[float, str]) -> Answer:
    made = Answer(asked=10.0, started=10.5)
    for moment, text in arrivals:
        made.add(moment, text)
    return made


def test_times_are_counted_from_asking_and_from_the_start() -> None:
    made = answer((11.0, "a"), (11.1, ""), (11.25, "b"))
    assert (made.first_ms, made.last_ms, made.text) == (1000, 750, "ab")


def test_a_token_is_late_against_the_one_that_came_earliest() -> None:
    # One each 100 ms: the first 30 ms late, the third 50 ms.
    made = answer((11.03, "一"), (11.1, "二"), (11.25, "三"))
    assert made.delays_ms([1, 2, 3], 100) == pytest.approx([30, 0, 50])


def test_tokens_that_came_together_are_each_as_late_as_they_are() -> None:
    made = answer((11.0, "ab"), (11.4, "cde"))
    assert made.delays_ms([2, 3, 4, 5], 100) == pytest.approx([0, 300, 200, 100])


def test_an_event_counts_when_its_last_byte_is_there() -> None:
    received = [
        (1.0, b": x\n\nid: 1\nda"),
        (2.0, 'ta: {"a":"你'.encode()[:-1]),
        (3.0, "你".encode()[-1:] + b'"}\n\nid: 2\n\n'),
    ]
    assert list(split_events(received)) == [(3.0, {"id": "1", "data": '{"a":"你"}'})]


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (95, 95), (99, 99), (100, 100)])
def test_a_percentile_is_a_value_that_was_measured(percent: int, value: int) -> None:
    assert figures.percentile([float(n) for n in range(100, 0, -1)], percent) == value


def test_the_percentile_of_few_values_is_one_of_them() -> None:
    assert figures.percentile([1.0, 2.0], 95) == 2
    assert figures.percentile([float(n) for n in range(1, 21)], 95) == 19
    assert figures.percentile([7.0], 1) == 7


def case_of(**firsts: float) -> Case:
    """Two answers of two tokens in each way, the first token so many seconds after asking."""
    names = {"straight": STRAIGHT, "compatible": COMPATIBLE, "litellm": LITELLM}
    names |= {"asked": ASKED, "opened": OPENED, "read": READ, "queued": QUEUED, "completed": COMPLETED}
    names |= {"before": LITELLM_BEFORE, "sdk_straight": SDK_COMPATIBLE, "sdk": SDK}
    straights = {"compatible": COMPATIBLE, "litellm": COMPATIBLE, "completed": COMPATIBLE, "before": COMPATIBLE}
    straights |= {"sdk_straight": SDK_COMPATIBLE, "sdk": SDK_COMPATIBLE}
    case = Case(tokens=2, pace_ms=100, last_target=1.01)
    for key, first in firsts.items():
        for _ in range(2):
            made = Answer(10.0, 10.0)
            made.add(10 + first, "a")
            made.add(10 + first + 0.1, "b")
            case.add(Way(names[key], straights.get(key, STRAIGHT), Mock()), made)
    return case


def test_each_way_is_compared_with_the_provider_in_its_own_protocol() -> None:
    case = case_of(straight=0.1, asked=0.12, compatible=0.2, litellm=0.21)
    assert case.later_ms(ASKED) == pytest.approx(20)
    assert case.later_ms(LITELLM) == pytest.approx(10)
    assert case.last_ratio(ASKED) == pytest.approx(1.1)


def test_the_table_has_a_row_for_each_way_and_names_the_targets() -> None:
    firsts = {"litellm": 0.21, "queued": 0.13, "read": 0.125, "opened": 0.11, "asked": 0.12}
    text = figures.make_case_report(case_of(**firsts, compatible=0.2, straight=0.1))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert {len(row) for row in rows} == {10}
    assert [row[0] for row in rows[2:]] == [
        *("| the provider alone", "| `POST /tasks/stream`"),
        *("| `POST /tasks/stream, a new chat`", "| `POST /tasks/stream, a chat to be read`"),
        "| `POST /tasks, GET /tasks/{id}/stream`",
        *("| the provider alone, OpenAI's protocol", "| LiteLLM proxy"),
    ]
    asked = rows[3]
    assert (asked[1], asked[3], asked[6], asked[9]) == ("120.0 ms", "+20.0 ms", "1.100 ×", "1 |")
    assert "- first token, `POST /tasks/stream`: 20.0 ms later than straight, LiteLLM's ≤ 10 ms: **missed**" in text
    assert (
        "- first token, `POST /tasks/stream, a new chat`: 10.0 ms later than straight, LiteLLM's ≤ 10 ms: met" in text
    )
    assert "- first token, `POST /tasks/stream, a chat to be read`: 25.0 ms later" in text
    assert "- last token: 1.100 ×, ≤ 1.01 ×: **missed**" in text


def test_v1_has_targets_of_its_own_and_rows_through_other_programs() -> None:
    firsts = {"sdk": 0.35, "before": 0.4, "completed": 0.126, "asked": 0.12, "sdk_straight": 0.3}
    text = figures.make_case_report(case_of(**firsts, compatible=0.2, straight=0.1))
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows[4:]] == [
        *(COMPATIBLE, f"`{COMPLETED}`", "LiteLLM proxy before AIDeer"),
        *("openai-python to the provider", "openai-python to AIDeer"),
    ]
    assert rows[-1][3] == "+50.0 ms"
    assert f"- first token: +6.0 ms against `{ASKED}`, ≤ 5 ms: **missed**" in text
    assert f"- last token, from the request: 1.027 × `{ASKED}`, ≤ 1.01 ×: **missed**" in text


def test_without_litellm_its_target_is_left_out() -> None:
    text = figures.make_case_report(case_of(straight=0.1, asked=0.1))
    assert "LiteLLM" not in text
    assert "- last token: 1.000 ×, ≤ 1.01 ×: met" in text


def test_the_report_of_the_calls_says_how_many_come_one_after_the_other() -> None:
    report = figures.make_calls_report()
    assert f"- `{ASKED}`: 1. TransactWriteItems." in report
    assert f"- `{READ}`: 3. GetItem Chats, then Query Messages, then TransactWriteItems." in report
    assert "then SendMessage beside TransactWriteItems, then" in report


def test_memory_that_the_system_does_not_divide_is_left_blank() -> None:
    text = figures.make_memory_report([Memory("front", 100, None), Memory("worker", 200, None)])
    assert text.index("worker") < text.index("front")
    assert "| **together** | **300** |  |" in text
