"""The whole product from outside: the journey, viewers of every kind, and the death of any one process."""

import base64
import io
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
from PIL import Image

from local.simulators import wechat
from local.simulators.dashscope import Server
from local.stack.processes import Processes
from tests.integration.stacks import Client, Stack, running
from tests.waiting import PATIENCE_SECONDS, until
from tests.windows import limit

pytestmark = pytest.mark.early

LEASE, SWEEP = 8.0, 1.0
"""In seconds. A lease is renewed when a third of it has passed, so a busy machine may be late once."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    limits = f"{limit('sign_in', 5)} all=1000000/60"
    with running(folder, LEASE_SECONDS=str(LEASE), SWEEP_SECONDS=str(SWEEP), WORKERS="2", THROTTLES=limits) as started:
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


def test_a_picture_goes_through_the_gateway_and_back(stack: Stack) -> None:
    me = Client(stack)
    picture = base64.b64decode("R0lGODlhAQABAIAAAP8AAP///yH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")

    def upload(content: bytes) -> httpx.Response:
        return me.http.post("/users/me/avatar", files={"avatar_file": ("me.gif", content)})

    answer = upload(picture)
    assert answer.status_code == 200, answer.text
    shown = me.http.get(f"{stack.url}{answer.json()['avatar']}")
    assert (shown.status_code, shown.headers["content-type"], shown.content[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
    again = me.http.get("/users/me/avatar", headers={"If-None-Match": shown.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    refused = [upload(picture + b"\0" * size) for size in (4 * 1024 * 1024, 5_000_000, 11_000_000)]
    assert [answer.status_code for answer in refused] == [413, 413, 413]
    assert [next(iter(answer.json())) for answer in refused] == ["detail", "message", "message"]


def test_a_page_uploads_a_photo_and_asks_about_it(stack: Stack) -> None:
    me, held = Client(stack), io.BytesIO()
    Image.new("RGB", (60, 40), "green").save(held, "JPEG")
    photo = held.getvalue()
    new = {"name": "deer.jpg", "type": "image/jpeg", "size": len(photo)}
    announced = me.http.post("/uploads", json=new).json()
    form, page = announced["post"], {"Origin": stack.url}
    assert form["url"].startswith(f"{stack.url}/")
    refused = httpx.post(
        form["url"], data=form["fields"], files={"file": photo + b"x"}, headers=page, timeout=PATIENCE_SECONDS
    )
    assert refused.status_code == 400
    posted = httpx.post(form["url"], data=form["fields"], files={"file": photo}, headers=page, timeout=PATIENCE_SECONDS)
    assert posted.status_code == 204
    assert "access-control-allow-origin" not in posted.headers, "the stack's own page needs no CORS"
    foreign = httpx.post(
        form["url"],
        data=form["fields"],
        files={"file": photo},
        headers={"Origin": "https://evil.example"},
        timeout=PATIENCE_SECONDS,
    )
    assert "access-control-allow-origin" not in foreign.headers
    done = me.http.post(f"/uploads/{announced['id']}/complete").json()
    shown = httpx.get(done["url"], timeout=PATIENCE_SECONDS)
    assert (shown.status_code, shown.headers["content-type"], shown.content[:3]) == (200, "image/jpeg", b"\xff\xd8\xff")
    assert httpx.get(done["url"].partition("?")[0], timeout=PATIENCE_SECONDS).status_code == 403, (
        "it needs its signature"
    )
    preset = {"title": "Seeing", "parameters": {"model": "qwen3.5-plus"}}
    opened = {"preset_id": me.http.post("/presets", json=preset).json()["id"]}
    messages = [
        {"role": "user", "type": "image", "content": done["content"]},
        {"role": "user", "content": "/sim tokens=12 What is it?"},
    ]
    answer = me.http.post(
        "/tasks/stream", json={"chat": opened, "messages": messages}, headers={"Idempotency-Key": "photo"}
    )
    assert "I can see 1 image." in answer.text, answer.text
    assert me.http.delete(f"/uploads/{done['id']}").status_code == 200
    assert httpx.get(done["url"], timeout=PATIENCE_SECONDS).status_code == 404


def test_who_guesses_a_password_is_stopped_wherever_they_say_that_they_are(stack: Stack) -> None:
    form = {"grant_type": "password", "username": "nobody-at-all", "password": "wrong"}
    answers = [
        httpx.post(
            f"{stack.url}/api/v1/session/oauth2/token",
            data=form,
            headers={"X-Forwarded-For": f"198.51.100.{n}", "Forwarded": f"for=198.51.100.{n}"},
            timeout=PATIENCE_SECONDS,
        )
        for n in range(6)
    ]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["Retry-After"]) > 0


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
        until(lambda: me.task(accepted["task_id"])["status"] != "pending", "claimed")
        other = me.watch(f"{accepted['stream_url']}&after=0")
        assert other.final["status"] == "finished"
        assert other.content == other.final["content"]


def test_a_stop_shows_what_there_is_and_what_it_cost(stack: Stack) -> None:
    me = Client(stack)
    accepted = me.ask("/sim tokens=2000 delay=10")
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(me.watch, accepted["stream_url"])
        until(lambda: me.task(accepted["task_id"])["content"], "text")
        stopped = me.post(f"/tasks/{accepted['task_id']}/stop", {})
        stream = watching.result(PATIENCE_SECONDS)
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
        answer = me.http.get(door, headers=headers, timeout=PATIENCE_SECONDS)
        if answer.status_code == 410:
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
    for kind in ("worker", "zygote", "front", "background", "dashscope", "wechat", "supervisor", "launcher"):
        pid = stack.pid(kind)
        asked = [me.ask("/sim tokens=150 delay=10", stream=watched) for watched in (True, True, False, False)]
        viewers = [threading.Thread(target=me.watch, args=(task["stream_url"],)) for task in asked[:2]]
        for viewer in viewers:
            viewer.start()
        for task in asked:
            until(lambda task=task: me.task(task["task_id"])["content"], "text")
        os.kill(pid, signal.SIGKILL)
        for viewer in viewers:
            viewer.join(PATIENCE_SECONDS)
        stack.ready()
        for task in asked:
            end = me.ended(task["task_id"])
            assert end["status"] == "finished" or end["error"]["code"] in ("interrupted", "upstream_error"), kind
            assert end["credits"] == 0 or end["status"] == "finished"
            assert not me.get(f"/chats/{end['chat_id']}").get("active_task")
        assert me.get("/users/me/credits")["credits_held"] == 0
        until(lambda: answers(me), f"a next answer after the death of {kind}")


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
        assert httpx.get(f"{stack.url}/docs", timeout=PATIENCE_SECONDS).status_code == 200


def test_another_wechat_is_asked_where_one_is_named_and_its_website_ends_on_a_page(tmp_path: Path) -> None:
    appid, secret = wechat.APPS["mini"]
    with (
        wechat.Server() as weixin,
        running(
            tmp_path,
            WECHAT_APPID=appid,
            WECHAT_SECRET=secret,
            WECHAT_WEB_APPID=wechat.APPS["web"][0],
            WECHAT_WEB_SECRET=wechat.APPS["web"][1],
            WECHAT_BASE_URL=weixin.base_url,
            WECHAT_OPEN_URL=weixin.base_url,
            WECHAT_LOGIN_PAGE="https://app.test/login",
            WORKERS="1",
        ) as stack,
        httpx.Client(base_url=f"{stack.url}/api/v1", timeout=PATIENCE_SECONDS) as browser,
    ):
        assert Processes(tmp_path).wechat.pid is None
        phone = browser.get("/session/wechat/token", params={"code": weixin.code("ada")}).json()
        [request] = weixin.requests("/sns/jscode2session")
        assert request["query"]["appid"] == appid
        verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # of RFC 7636, appendix B
        challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        way = browser.get(
            "/session/wechat/authorize", params={"code_challenge": challenge, "code_challenge_method": "S256"}
        )
        back = httpx.get(way.headers["location"].replace("#", "&as=ada#"), timeout=PATIENCE_SECONDS)
        end = browser.get(back.headers["location"])
        assert (end.status_code, end.headers["location"].partition("#")[0]) == (303, "https://app.test/login")
        ticket = end.headers["location"].partition("#ticket=")[2]
        with httpx.Client(base_url=f"{stack.url}/api/v1", timeout=PATIENCE_SECONDS) as another:
            stolen = another.get(back.headers["location"])
            refused = (303, "https://app.test/login#error=state_invalid")
            assert (stolen.status_code, stolen.headers["location"]) == refused
        assert browser.post("/session/refresh", json={"ticket": ticket}).status_code == 401, "of another page"
        held = {"ticket": ticket, "code_verifier": verifier}
        page = browser.post("/session/refresh", json=held).json()
        assert browser.post("/session/refresh", json=held).status_code == 401
        signed_in = [
            browser.get("/users/me", headers={"Authorization": f"Bearer {tokens['access_token']}"}).json()["id"]
            for tokens in (phone, page)
        ]
        assert signed_in[0] == signed_in[1]
