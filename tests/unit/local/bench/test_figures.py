"""`make bench`: how what was received becomes figures."""

import pytest

from local.clients import bench
from local.clients.bench import Answer


def answer(*arrivals: tuple[float, str]) -> Answer:
    made = Answer(asked=10.0, opened=10.5)
    for moment, text in arrivals:
        made.add(moment, text)
    return made


def test_times_are_counted_from_asking_and_from_opening() -> None:
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
    assert list(bench._events(received)) == [(3.0, {"id": "1", "data": '{"a":"你"}'})]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [bench._percentile(values, percent) for percent in (50, 99)] == [51, 100]
