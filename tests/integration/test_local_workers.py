"""The pool of workers: an answer or an error for each event, and no death that outlasts its request."""

import json
import os
import queue
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local.stack.invocation import Context, InvocationError, TimedOutError
from local.stack.reload import FUNCTIONS, Reloader, changes
from local.stack.workers import Pool, WorkerDiedError
from tests.waiting import PATIENCE_SECONDS, until

HANDLER = """
import json, os, signal, time

def handler(event, context):
    if event.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(event.get("sleep", 0))
    if event.get("open"):
        open(event["open"], "w").close()
    while event.get("until") and not os.path.exists(event["until"]):
        time.sleep(0.01)
    if event.get("fail"):
        raise KeyError("no")
    if event.get("unserializable"):
        return object()
    return {"pid": os.getpid(), "parent": os.getppid(), "left": context.get_remaining_time_in_millis(),
            "id": context.aws_request_id, "arn": context.invoked_function_arn, "memory": context.memory_limit_in_mb}
"""
SIZE = 2

Invoke = Callable[..., Any]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("handlers")
    (folder / "toy.py").write_text(HANDLER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        pool = Pool(SIZE, ["toy"])
        pool.start()
        assert pool.wait_until_ready(PATIENCE_SECONDS)
        yield pool
        pool.close()


@pytest.fixture
def invoke(pool: Pool) -> Invoke:
    def call(seconds: float = PATIENCE_SECONDS, **event: Any) -> Any:
        return json.loads(pool.invoke(Context("Toy", "toy.handler", seconds, 512), json.dumps(event)))

    return call


def test_a_handler_gets_its_context(invoke: Invoke) -> None:
    answer = invoke()

    assert 0 < answer["left"] <= PATIENCE_SECONDS * 1000
    assert answer["arn"].endswith(":function:Toy")
    assert answer["memory"] == 512
    assert answer["id"] != invoke()["id"]


def test_the_workers_stay_and_the_last_at_work_is_the_next(invoke: Invoke) -> None:
    assert len(_at_work(invoke)) == len(_at_work(invoke) | _at_work(invoke)) == SIZE
    assert len({invoke()["pid"] for _ in range(3 * SIZE)}) == 1


def test_a_worker_runs_one_event_at_a_time_and_the_others_wait(invoke: Invoke, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(8) as threads:
        held = [threads.submit(invoke, open=str(tmp_path / str(n)), until=str(gate)) for n in range(8)]
        until(lambda: len(list(tmp_path.iterdir())) >= SIZE, "a file of each")
        assert len(list(tmp_path.iterdir())) == SIZE
        gate.touch()
        assert len({future.result()["pid"] for future in held}) == SIZE


@pytest.mark.parametrize("event", [{"fail": True}, {"unserializable": True}])
def test_a_handler_that_fails_keeps_its_worker(invoke: Invoke, event: dict[str, bool]) -> None:
    workers = _at_work(invoke)

    with pytest.raises(InvocationError):
        invoke(**event)

    assert _at_work(invoke) == workers


def test_the_death_of_a_worker_costs_its_own_request_only(invoke: Invoke) -> None:
    before = _at_work(invoke)

    with pytest.raises(WorkerDiedError):
        invoke(die=True)

    until(lambda: len(_at_work(invoke)) == SIZE, "all at work")
    assert len(_at_work(invoke) & before) == SIZE - 1


def test_a_worker_that_dies_idle_costs_no_request(invoke: Invoke) -> None:
    workers = _at_work(invoke)

    for pid in workers:
        os.kill(pid, signal.SIGKILL)

    assert not _at_work(invoke) & workers


def test_a_handler_that_takes_too_long_is_ended(invoke: Invoke) -> None:
    with pytest.raises(TimedOutError):
        invoke(seconds=0.2, sleep=30)

    until(lambda: len(_at_work(invoke)) == SIZE, "all at work")


def test_waiting_for_a_worker_counts_as_time(invoke: Invoke, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(SIZE) as threads:
        held = [threads.submit(invoke, open=str(tmp_path / str(n)), until=str(gate)) for n in range(SIZE)]
        until(lambda: len(list(tmp_path.iterdir())) == SIZE, "a file of each")
        with pytest.raises(TimedOutError):
            invoke(seconds=0.2)
        gate.touch()
        assert all(future.result() for future in held)


def test_the_death_of_the_nursery_is_not_noticed(invoke: Invoke) -> None:
    first = invoke()
    nursery = first["parent"]

    os.kill(nursery, signal.SIGKILL)
    assert invoke()["pid"]  # by the workers that it leaves behind

    def replaced() -> bool:
        return len(answers := [invoke() for _ in range(2 * SIZE)]) > 0 and all(
            answer["parent"] not in (nursery, 1) and answer["pid"] != first["pid"] for answer in answers
        )

    until(replaced, "other workers")


def test_a_module_that_cannot_be_imported_is_told_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    pool = Pool(SIZE, ["no_such_module"])
    pool.start()

    began = time.monotonic()
    assert not pool.wait_until_ready(PATIENCE_SECONDS)
    assert time.monotonic() - began < PATIENCE_SECONDS
    assert "no_such_module" in capfd.readouterr().err


VERSION = """
import os, time

def handler(event, context):
    if event.get("open"):
        open(event["open"], "w").close()
    while event.get("until") and not os.path.exists(event["until"]):
        time.sleep(0.01)
    return VERSION
"""


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Pool, Callable[[str], None], Invoke]]:
    """A pool with one worker, what writes the version of its handler, and what asks for it."""
    (tmp_path / "code").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")  # two edits within a second, of one length

    def write(version: str) -> None:
        (tmp_path / "code" / "edited.py").write_text(f"{VERSION}VERSION = {version}\n")

    def call(**event: str) -> Any:
        return json.loads(pool.invoke(Context("Edited", "edited.handler", 30.0, 512), json.dumps(event)))

    write("1")
    pool = Pool(1, ["edited"])
    pool.start()
    assert pool.wait_until_ready(60)
    yield pool, write, call
    pool.close()


def test_an_edited_handler_is_there_without_a_new_start(edited: tuple[Pool, Callable[[str], None], Invoke]) -> None:
    pool, write, call = edited
    assert call() == 1
    write("2")
    assert call() == 1
    pool.reload()
    until(lambda: call() == 2, "the second code")


def test_an_edit_ends_no_request(edited: tuple[Pool, Callable[[str], None], Invoke], tmp_path: Path) -> None:
    pool, write, call = edited
    with ThreadPoolExecutor(1) as threads:
        held = threads.submit(call, open=str(tmp_path / "begun"), until=str(tmp_path / "gate"))
        until((tmp_path / "begun").exists, "a call that has begun")
        write("2")
        pool.reload()
        until(lambda: call() == 2, "the second code")
        assert not held.done()
        (tmp_path / "gate").touch()
        assert held.result() == 1
    assert [call() for _ in range(5)] == [2] * 5


def test_while_the_code_is_broken_the_code_of_before_answers(
    edited: tuple[Pool, Callable[[str], None], Invoke], capfd: pytest.CaptureFixture[str]
) -> None:
    pool, write, call = edited
    write("1 +")
    pool.reload()
    said = ""

    def told() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "keep the code of before" in said

    until(told, "a line on the console")
    assert "SyntaxError" in said
    assert call() == 1
    write("3")
    pool.reload()
    until(lambda: call() == 3, "the third code")


def test_many_edits_at_once_end_with_the_last(edited: tuple[Pool, Callable[[str], None], Invoke]) -> None:
    pool, write, call = edited
    for version in range(2, 7):
        write(str(version))
        pool.reload()
    until(lambda: call() == 6, "the sixth code")


def test_files_that_are_edited_are_noticed_and_others_are_not(tmp_path: Path) -> None:
    found: queue.Queue[set[Path]] = queue.Queue()
    begun = threading.Event()

    def noticed() -> Iterator[set[Path]]:
        begun.set()
        yield from changes(tmp_path)

    reloads: list[int] = []
    reloader = Reloader(lambda: reloads.append(1), [], print)
    reloader.changed = found.put  # type: ignore[method-assign]
    reloader.start(noticed)
    begun.wait()

    def edited() -> set[Path]:
        (tmp_path / "a.pyc").write_text("x")
        (tmp_path / "a.py").write_text(str(time.monotonic()))  # again, for a watcher that has only begun
        try:
            return found.get(timeout=0.2)
        except queue.Empty:
            return set()

    files: set[Path] = set()

    def seen() -> bool:
        files.update(edited())
        return bool(files)

    until(seen, "the edited file")
    assert {file.name for file in files} == {"a.py"}


def test_the_console_is_told_what_was_edited_and_what_keeps_its_code() -> None:
    lines: list[str] = []
    reloads: list[int] = []
    reloader = Reloader(lambda: reloads.append(1), ["chats.get", "chats.create"], lines.append)
    reloader.changed({FUNCTIONS / "chats" / "get.py"})
    reloader.changed({FUNCTIONS / "chats" / "get.py", FUNCTIONS / "aideer" / "tasks" / "executor.py"})
    reloader.changed({FUNCTIONS / "x" / f"{n}.py" for n in range(5)})
    after = ". Streams, queues and schedules use it after a new start"
    assert lines == [
        "RELOAD functions/chats/get.py",
        f"RELOAD functions/aideer/tasks/executor.py, functions/chats/get.py{after}",
        f"RELOAD functions/x/0.py, functions/x/1.py, functions/x/2.py and 2 more{after}",
    ]
    assert len(reloads) == 3


def _at_work(invoke: Invoke) -> set[int]:
    """All workers: each is kept busy until every other one is."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(SIZE) as threads:
        marks = [str(Path(folder, str(n))) for n in range(SIZE)]
        asked = [
            threads.submit(invoke, open=mine, until=other)
            for mine, other in zip(marks, marks[1:] + marks[:1], strict=True)
        ]
        return {answer.result()["pid"] for answer in asked}
