"""docs/chat.svg is a picture that GitHub shows, and it shows what it should. The recorder notes output as it came."""

import io
import json
import re
import time

import pytest

from local.docs.recording import COLUMNS, PICTURE, QUESTIONS, ROWS, WAIT_SECONDS, Recorder

SVG = PICTURE.read_text(encoding="utf-8")
TEXT = re.sub(r"&#(\d+);", lambda code: chr(int(code[1])), SVG)


def test_it_is_small() -> None:
    assert len(SVG.encode()) <= 300_000


def test_it_has_no_script_and_fetches_nothing() -> None:
    assert "<script" not in SVG
    assert "url(" not in SVG
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', SVG))


def test_it_plays_for_15_to_25_seconds_again_and_again() -> None:
    [duration] = re.findall(r"animation-duration: (\d+)ms;\s+animation-iteration-count:infinite", SVG)
    assert 15_000 <= int(duration) <= 25_000


def test_it_stands_still_for_readers_who_do_not_want_movement() -> None:
    assert re.search(r"prefers-reduced-motion: reduce\) \{\s*#screen_view \{[^}]*animation-play-state: paused", SVG)


def test_it_shows_both_commands_both_questions_and_their_bills() -> None:
    for words in ("make run", "Open http://127.0.0.1:", "make chat", *QUESTIONS):
        assert words in TEXT
    assert len(set(re.findall(r"\d+ credits for \d+ tokens in, \d+ out · [\d,]+ left", TEXT))) == len(QUESTIONS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the recorder sees."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_output_keeps_its_order_and_long_waits_are_cut(clock: list[float]) -> None:
    file = io.StringIO()
    recorder = Recorder(file)
    for seconds, text in ((0.25, "你"), (60, "好")):
        clock[0] += seconds
        recorder.write(text)
    header, *events = map(json.loads, file.getvalue().splitlines())
    assert header == {"version": 2, "width": COLUMNS, "height": ROWS}
    assert events == [[0.25, "o", "你"], [0.25 + WAIT_SECONDS, "o", "好"]]


def test_dim_text_is_gray(clock: list[float]) -> None:
    file = io.StringIO()
    Recorder(file).write("\x1b[2m2 credits\x1b[0m")
    assert json.loads(file.getvalue().splitlines()[1])[2] == "\x1b[90m2 credits\x1b[0m"
