"""The whole product from outside: the journey, viewers of every kind, and the death of any one process."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from local.dashscope import Server
from tests.integration.stacks import Client, Stack, running, until

LEASE, SWEEP = 3.0, 1.0
GRACE = 8.0
"""What a loaded machine may take to start a process again."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with running(folder, LEASE_SECONDS=str(LEASE), SWEEP_SECONDS=str(SWEEP), WORKERS="2") as started:
        yield started


def test_the_journey(stack: Stack) -> None:
    me = Client(stack)
    accepted = me.ask("/sim tokens=40 delay=2 cut_emoji 你好 🙂")
    stream = me.watch(accepted["stream_url"])
    assert stream.final["status"] == "finished"
    assert stream.content == stream.final["content"]
    task = me.task(accepted["task_id"])
    [question, answer] = me.get(f"/chats/{task['chat_id']}")["messages"]
    assert question["role"] == "user"
    assert answer["content"] == stream.content
    assert answer["usage"] == stream.final["usage"]
    money = me.get("/users/me/credits")
    assert money["credits_held"] == 0
    assert money["credits_left"] == 1_000_000 - stream.final["credits"]
    assert [record["amount"] for record in money["credit_records"]] == [-stream.final["credits"], 1_000_000]


def test_an_answer_that_nobody_watches_is_made_all_the_same(stack: Stack) -> None:
    me = Client(stack)
    soon, later = me.ask("/sim tokens=5 delay=1", stream=False), me.ask("/sim tokens=5 delay=1")
    assert me.ended(soon["task_id"])["status"] == "finished"
    assert me.ended(later["task_id"])["status"] == "finished"  # its viewer never came


def test_a_viewer_who_leaves_can_come_back_for_the_rest(stack: Stack) -> None:
    me = Client(stack)
    accepted = me.ask("/sim tokens=150 delay=10")
    seen, position = "", ""
    with me.http.stream("GET", accepted["stream_url"]) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                position = line[4:]
            if int(position or 0) > 20:
                break
    whole = me.ended(accepted["task_id"])["content"]
    seen = whole[: int(position)]
    rest = me.watch(f"{accepted['stream_url']}&after={position}")
    assert seen + rest.content == whole == rest.final["content"]


def test_a_viewer_who_stops_reading_delays_nobody(stack: Stack) -> None:
    me = Client(stack)
    accepted = me.ask("/sim tokens=3000 delay=1 fail=bigline at=5")
    url = urlsplit(accepted["stream_url"])
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stalled.connect((url.hostname, url.port))
        stalled.sendall(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: me.task(accepted["task_id"])["status"] != "pending", 10, "claimed")
        other = me.watch(f"{accepted['stream_url']}&after=0")
        assert other.final["status"] == "finished"
        assert other.content == other.final["content"]


def test_a_stop_shows_what_there_is_and_what_it_cost(stack: Stack) -> None:
    me = Client(stack)
    accepted = me.ask("/sim tokens=2000 delay=10")
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(me.watch, accepted["stream_url"])
        until(lambda: me.task(accepted["task_id"])["content"], 10, "text")
        stopped = me.post(f"/tasks/{accepted['task_id']}/stop", {})
        stream = watching.result(20)
    assert stopped["status"] == stream.final["status"] == "stopped"
    assert 0 < stopped["credits"] < accepted["credits_held"]
    assert stream.content == stopped["content"]


def test_the_same_port_serves_the_gateways_door(stack: Stack) -> None:
    me = Client(stack)
    accepted = me.ask("/sim tokens=10 delay=5")
    door = f"{stack.url}/gateway/api/v1/tasks/{accepted['task_id']}/stream"
    text, position = "", None
    for _ in range(50):
        headers = {"Last-Event-ID": position} if position else {}
        answer = me.http.get(door, headers=headers, timeout=30)
        if answer.status_code == 204:
            break
        assert answer.status_code == 200
        text += answer.text
        position = [line[4:] for line in answer.text.splitlines() if line.startswith("id: ")][-1]
    assert position == "end"
    from tests.events import parse

    stream = parse(text)
    assert stream.content == stream.final["content"]


def answers(person: Client) -> bool:
    return person.watch(person.ask("/sim tokens=3 delay=1")["stream_url"]).final.get("status") == "finished"


def test_the_death_of_any_process_ends_only_its_own_answers(stack: Stack) -> None:
    me = Client(stack)
    for kind in ("worker", "zygote", "front", "background", "dashscope", "supervisor", "launcher"):
        pid = stack.pid(kind)
        asked = [me.ask("/sim tokens=150 delay=10", stream=watched) for watched in (True, True, False, False)]
        viewers = [threading.Thread(target=me.watch, args=(task["stream_url"],)) for task in asked[:2]]
        for viewer in viewers:
            viewer.start()
        for task in asked:
            until(lambda task=task: me.task(task["task_id"])["content"], 15, "text")
        os.kill(pid, signal.SIGKILL)
        for viewer in viewers:
            viewer.join(30)
        stack.ready(LEASE + SWEEP + GRACE)
        for task in asked:
            end = me.ended(task["task_id"], LEASE + SWEEP + GRACE)
            assert end["status"] == "finished" or end["error"]["code"] in ("interrupted", "upstream_error"), kind
            assert end["credits"] == 0 or end["status"] == "finished"
            assert not me.get(f"/chats/{end['chat_id']}").get("active_task")
        assert me.get("/users/me/credits")["credits_held"] == 0
        until(lambda: answers(me), GRACE, f"a next answer after the death of {kind}")


def test_another_provider_is_asked_where_one_is_named(tmp_path: Path) -> None:
    with (
        Server(tokens=5, delay_ms=1) as provider,
        running(tmp_path, DASHSCOPE_HTTP_BASE_URL=provider.base_url, DASHSCOPE_API_KEY="sk-mine", WORKERS="1") as stack,
    ):
        me = Client(stack)
        stream = me.watch(me.ask("hello")["stream_url"])
        assert stream.final["status"] == "finished"
        [request] = provider.requests()
        assert {k.lower(): v for k, v in request["headers"].items()}["authorization"] == "Bearer sk-mine"
        assert request["body"]["parameters"]["incremental_output"] is True
        assert httpx.get(f"{stack.url}/docs").status_code == 200
