"""Events as clients of every kind read them, and the positions that clients send back."""

import json
import sys

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given
from hypothesis import strategies as st

from aideer.core.errors import Unprocessable
from aideer.tasks import sse
from tests.events import parse

LINE_ENDS = [chr(point) for point in range(sys.maxunicode + 1) if len(f"a{chr(point)}b".splitlines()) > 1]
"""Whatever Python takes for a line's end, which is what Unicode does."""


def answer(text: str) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=text.encode())


def test_these_are_the_ends_of_lines() -> None:
    assert set("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029") <= set(LINE_ENDS)


@pytest.mark.parametrize("end", LINE_ENDS, ids=lambda end: f"U+{ord(end):04X}")
def test_no_line_end_in_a_text_ends_a_line_for_any_client(end: str) -> None:
    said = f"before{end}after{end}"
    event = sse.text_event(8, "content", said) + sse.final_event({"content": said, "message": {"content": said}})
    assert event.splitlines() == event.split("\n")[:-1]
    lines = [line for line in answer(event).iter_lines() if line]
    assert [line.partition(":")[0] for line in lines] == ["id", "data", "id", "data"]
    assert [json.loads(line[6:])["content"] for line in lines if line.startswith("data: ")] == [said, said]
    read = list(EventSource(answer(event)).iter_sse())
    assert [(event.id, json.loads(event.data)["content"]) for event in read] == [("8", said), ("end", said)]


@given(st.text())
def test_any_text_arrives_as_it_is(said: str) -> None:
    event = sse.text_event(1, "content", said)
    assert parse(event).content == said
    assert [json.loads(line[6:])["content"] for line in event.splitlines() if line.startswith("data: ")] == [said]


def test_the_first_event_says_what_the_stream_is_under_no_name_of_eventsources_own() -> None:
    name, position, data = sse.start_event("t", "c", 7).strip().split("\n")
    assert name == "event: start"
    assert position == "id: 7"
    assert json.loads(data[6:]) == {"task_id": "t", "chat_id": "c", "position": 7}


@pytest.mark.parametrize(
    ("header", "in_query", "after", "position"),
    [
        (None, None, None, None),
        (None, None, "0", 0),
        (None, "4", None, 4),
        ("7", None, None, 7),
        ("7", None, "0", 7),
        (None, "4", "0", 4),
        ("7", "4", "0", 7),
        ("0", "4", "9", 0),
        ("end", None, "0", sse.END),
        (None, "end", "0", sse.END),
        (None, None, "end", sse.END),
        ("", "", None, None),  # an EventSource that has received no id
        ("", "", "0", 0),
    ],
)
def test_what_was_received_wins_over_the_position_in_the_address(
    header: str | None, in_query: str | None, after: str | None, position: int | str | None
) -> None:
    assert sse.parse_position(header, in_query, after) == position


@pytest.mark.parametrize("bad", ["-1", "x", "1.5", "٣", "9" * 10, "END", " 1", "0x1", "start"])
def test_what_is_no_position_is_refused(bad: str) -> None:
    for given_as in ((bad, None, None), (None, bad, None), (None, None, bad), (bad, None, "0"), (None, None, "")):
        with pytest.raises(Unprocessable, match="Last-Event-ID"):
            sse.parse_position(*given_as)
