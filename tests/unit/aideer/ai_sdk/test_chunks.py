"""Answers in the form of the AI SDK: whatever an answer is, its chunks are what the clients take, and say the same."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.ai_sdk import chunks
from aideer.tasks import sse
from tests.ui_messages import REASONS, Shown, blocks

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
PIECES = st.lists(st.tuples(st.sampled_from(["reasoning", "content"]), TEXTS), max_size=12)
SOURCE = {"index": 1, "title": "Deer", "url": "https://example.com/deer", "site_name": "Example"}
USAGE = {"input_tokens": 3, "output_tokens": 2}


def final(content: str = "", reasoning: str = "", **more: Any) -> str:
    """The last event of a task's stream."""
    body: dict[str, Any] = {
        "status": "finished",
        "content": content,
        "reasoning": reasoning,
        "finish_reason": "stop",
        "usage": USAGE,
        "credits": 1,
        "error": None,
        "message": {"n": 2},
        "chat_version": 3,
        "credits_left": 9,
        "sources": [],
    }
    return sse.final_event(body | more)


def events(pieces: Iterable[tuple[str, str]]) -> list[str]:
    """The first events of a stream that shows these pieces."""
    found, position = [sse.start_event("t1", "c1", 0, messages=[1], resume_url="https://x/?ticket=secret")], 0
    for kind, text in pieces:
        position += len(text)
        found += [sse.text_event(position, kind, text), sse.KEEP_ALIVE]
    return found


def translated(given: Iterable[str]) -> str:
    """The whole stream of chunks that these events become."""

    async def read() -> str:
        async def source() -> AsyncGenerator[str, None]:
            for event in given:
                yield event

        return "".join([chunk async for chunk in chunks.translate(source())])

    return asyncio.run(read())


def join(pieces: Iterable[tuple[str, str]], kind: str) -> str:
    return "".join(text for found, text in pieces if found == kind)


@given(PIECES)
def test_any_answer_is_shown_as_it_was_made(pieces: list[tuple[str, str]]) -> None:
    content, reasoning = join(pieces, "content"), join(pieces, "reasoning")
    shown = Shown(translated([*events(pieces), final(content, reasoning), sse.CLOSE]))
    assert (shown.text(), shown.text("reasoning")) == (content, reasoning)
    assert (shown.id, shown.finish, shown.error) == ("t1", "stop", None)
    assert shown.metadata["usage"] == USAGE


@given(PIECES)
def test_the_parts_have_the_order_of_the_answer_and_positions_are_those_of_its_stream(
    pieces: list[tuple[str, str]],
) -> None:
    content, reasoning = join(pieces, "content"), join(pieces, "reasoning")
    text = translated([*events(pieces), final(content, reasoning), sse.CLOSE])
    shown = Shown(text)
    order = [{"reasoning": "reasoning", "content": "text"}[kind] for kind, _ in pieces]
    assert shown.kinds == [kind for at, kind in enumerate(order) if at == 0 or order[at - 1] != kind]
    reached = 0
    for position, chunk in blocks(text):
        reached += len(chunk.get("delta", ""))
        if position not in (None, "end"):
            assert int(str(position)) == reached


@given(PIECES, TEXTS)
def test_what_the_log_lacks_comes_with_the_end(pieces: list[tuple[str, str]], missing: str) -> None:
    content, reasoning = join(pieces, "content") + missing, join(pieces, "reasoning")
    shown = Shown(translated([*events(pieces), final(content, reasoning), sse.CLOSE]))
    assert (shown.text(), shown.text("reasoning")) == (content, reasoning)


def test_the_whole_answer_may_come_with_the_end() -> None:
    shown = Shown(translated([*events([]), final("text", "thoughts"), sse.CLOSE]))
    assert (shown.kinds, shown.text(), shown.text("reasoning")) == (["reasoning", "text"], "text", "thoughts")


def test_text_that_is_not_stored_so_is_not_shown_twice() -> None:
    shown = Shown(translated([*events([("content", "abc")]), final("xyz", "late thoughts"), sse.CLOSE]))
    assert (shown.text(), shown.text("reasoning"), shown.finish) == ("abc", "", "stop")


@given(PIECES)
def test_a_failure_in_the_middle_is_an_error_and_no_end(pieces: list[tuple[str, str]]) -> None:
    failed = {"code": "upstream_error", "message": "The model's provider failed."}
    event = final(join(pieces, "content"), status="failed", finish_reason="interrupted", credits=0, error=failed)
    shown = Shown(translated([*events(pieces), event, sse.CLOSE]))
    assert shown.error == {"code": "upstream_error", "detail": "The model's provider failed."}
    assert (shown.metadata["status"], shown.metadata["credits"]) == ("failed", 0)
    assert shown.text() == join(pieces, "content")


@given(PIECES)
def test_a_stream_that_breaks_off_is_an_error(pieces: list[tuple[str, str]]) -> None:
    shown = Shown(translated(events(pieces)))
    assert shown.error
    assert shown.error["code"] == "stream_broken"


def test_a_stop_is_told_before_the_end() -> None:
    stopped = final("abc", status="stopped", finish_reason="stopped")
    shown = Shown(translated([*events([("content", "abc")]), stopped, sse.CLOSE]))
    assert (shown.aborted, shown.finish, shown.metadata["status"]) == (True, "stop", "stopped")


@pytest.mark.parametrize("reason", ["stop", "length", "content_filter", "stopped", "interrupted", "new", None])
def test_each_finish_reason_is_one_that_both_versions_know(reason: str | None) -> None:
    shown = Shown(translated([*events([]), final(finish_reason=reason), sse.CLOSE]))
    assert shown.finish in REASONS


def test_sources_come_before_the_end() -> None:
    sources = [SOURCE, {**SOURCE, "index": 2, "title": ""}, {"url": "https://example.com/moose"}]
    shown = Shown(translated([*events([("content", "abc")]), final("abc", sources=sources), sse.CLOSE]))
    found = [chunk for chunk in shown.chunks if chunk["type"] == "source-url"]
    assert [source["sourceId"] for source in found] == ["1", "2", "https://example.com/moose"]
    assert [source.get("title") for source in found] == ["Deer", None, None]


def test_comments_pass_and_no_ticket_does() -> None:
    text = translated([sse.KEEP_ALIVE, *events([]), final(), sse.CLOSE])
    assert text.startswith(sse.KEEP_ALIVE)
    assert "secret" not in text
    assert text.endswith("data: [DONE]\n\n")


def test_the_answers_stream_is_read_to_its_end() -> None:
    """Behind its last event, the executor may still work, and the response must last as long."""
    read = []

    async def source() -> AsyncGenerator[str, None]:
        for event in [*events([]), final(), sse.CLOSE]:
            yield event
        read.append("all")

    async def go_through() -> None:
        async for _ in chunks.translate(source()):
            pass

    asyncio.run(go_through())
    assert read == ["all"]


def test_a_client_that_leaves_ends_the_stream_of_the_answer() -> None:
    ended = []

    async def source() -> AsyncGenerator[str, None]:
        try:
            for event in events([("content", "abc")]):
                yield event
        finally:
            ended.append(True)

    async def leave() -> None:
        form = chunks.translate(source())
        await anext(form)
        await form.aclose()

    asyncio.run(leave())
    assert ended


def test_each_line_of_data_is_json_without_other_line_ends() -> None:
    text = translated([*events([("content", "a\u2028b\x85c\nd")]), final("a\u2028b\x85c\nd"), sse.CLOSE])
    assert Shown(text).text() == "a\u2028b\x85c\nd"
    assert all(json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {"))
