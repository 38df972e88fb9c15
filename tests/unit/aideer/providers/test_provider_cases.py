"""Every response that a provider was seen to give, and many of the same kinds, ends as it must."""

import json
from typing import Any

import pytest

from aideer.core.usage import Usage
from aideer.providers import dashscope, dashscope_connections
from aideer.providers.dashscope import Chunk, UpstreamError
from aideer.providers.dashscope_connections import Call
from tests.provider_cases import CASES, PACE, Case, play

IDLE_SECONDS = 4 * PACE
NEVER_IDLE_SECONDS = 60
"""For a response without pauses: a busy machine may be slow, and it is no silence of the provider's."""
SECRETS = ("好", "吗", "想", "inappropriate", "oops", "busy", "sk-test", "question")


async def hear(case: Case, base_url: str, progress: Call) -> tuple[list[Chunk], UpstreamError | None]:
    chunks: list[Chunk] = []
    try:
        async for chunk in dashscope.stream(
            "qwen-plus",
            [{"role": "user", "content": "question"}],
            {},
            endpoint=case.endpoint,
            api_key="sk-test",
            base_url=base_url,
            idle_seconds=NEVER_IDLE_SECONDS if has_no_pause(case) else IDLE_SECONDS,
            call=progress,
        ):
            chunks.append(chunk)
    except UpstreamError as error:
        return chunks, error
    return chunks, None


def is_text(piece: Any) -> bool:
    return isinstance(piece, str) or (isinstance(piece, dict) and "hex" in piece)


def has_no_pause(case: Case) -> bool:
    return all(map(is_text, case.wire))


def usage_of(counts: dict[str, int] | None) -> Usage | None:
    if counts is None:
        return None
    names = {
        "input": "input_tokens",
        "output": "output_tokens",
        "reasoning": "reasoning_tokens",
        "cached": "cached_tokens",
    }
    return Usage(**{names.get(name, name): count for name, count in counts.items()})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_response_ends_as_it_must(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(case, None, monkeypatch)


@pytest.mark.parametrize("case", [case for case in CASES if has_no_pause(case)], ids=lambda case: case.name)
async def test_a_response_that_comes_byte_by_byte_ends_as_it_must(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    await check(case, 1, monkeypatch)


async def check(case: Case, segment_bytes: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashscope, "_LATE_USAGE_SECONDS", NEVER_IDLE_SECONDS if has_no_pause(case) else 5 * PACE)
    want, progress = case.want, Call()
    with play(case, segment_bytes=segment_bytes) as played:
        chunks, error = await hear(case, played.base_url, progress)
        await dashscope_connections.close()
    assert len(played.requests) == 1
    assert json.loads(played.requests[0])["model"] == "qwen-plus"
    if "usage" in want:
        assert next((chunk.usage for chunk in reversed(chunks) if chunk.usage), None) == usage_of(want["usage"])
    assert progress.accepted == case.accepted
    if want["end"] == "failed":
        assert error is not None
        assert (error.code, error.retryable, error.accepted) == (want["code"], want["retry"], case.accepted)
        assert error.detail.startswith("qwen-plus: ")
        assert want.get("detail", "") in error.detail
        assert not any(secret in str(error) for secret in SECRETS)
        return
    assert error is None
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] == [want.get("finish_reason", "stop")]
    said: dict[str, Any] = {
        "content": "".join(chunk.content for chunk in chunks),
        "reasoning": "".join(chunk.reasoning for chunk in chunks),
    }
    assert said == {"content": want.get("content", said["content"]), "reasoning": want.get("reasoning", "")}
    sources = next((chunk.sources for chunk in reversed(chunks) if chunk.sources), ())
    assert len(sources) == want.get("sources", 0)
    assert all(source["url"].startswith("http") and source["title"].isprintable() for source in sources)
