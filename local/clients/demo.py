"""`make demo`: the main journey against a running stack, call by call, with each result.

The demo checks every promise on the way. It ends with status 1 at the first broken promise.
"""

import contextlib
import itertools
import os
import secrets
import sys
from collections.abc import Iterable, Iterator

from rich.console import Console

from local.clients.chat import explain
from local.clients.client import Client, End, LostError, NoStackError, Piece, RefusedError, Start, new_key
from local.stack.settings import Settings, SettingsError

QUESTION = "Who are you? 请用一句话回答 🦌"
LONG_QUESTION = "Tell me everything that you know about deer, at length."
PIECES_BEFORE_STOP = 20


class BrokenPromiseError(Exception):
    """A promise does not hold."""


def promise(kept: bool, what: str) -> None:
    """Raise BrokenPromiseError unless the promise is kept."""
    if not kept:
        raise BrokenPromiseError(what)


class Demo:
    """The journey, step by step."""

    def __init__(self, client: Client, admin: Client, console: Console, settings: Settings) -> None:
        self._client = client
        self._admin = admin
        self._console = console
        self._settings = settings
        self._simulated = settings.simulates_dashscope and client.url == settings.url
        self._numbers = itertools.count(1)

    def run(self) -> None:
        """Take every step."""
        self._tell("GET /health", f"version {self._client.check()}")
        self._sign_up()
        self._redeem()
        preset = {
            "title": "Demo",
            "parameters": {"model": "qwen-plus", "max_tokens": 4000},
            "messages": [{"role": "system", "content": "You are a friendly deer."}],
        }
        preset_id = self._client.call("POST", "/presets", preset)["id"]
        self._tell("POST /presets", "a model, its parameters and a prompt, under one name")
        answered = self._answer(preset_id)
        self._answer_again(answered)
        self._stop(answered.chat_id)
        self._ledger()

    def _sign_up(self) -> None:
        username, password = f"demo-{secrets.token_hex(3)}", secrets.token_urlsafe(12)
        user = self._client.call("POST", "/users", {"username": username, "password": password})
        self._tell("POST /users", f"{username} has {user['credits_left']:,} credits")
        self._client.sign_in(username, password)
        self._tell("POST /session/oauth2/token", "an access token for a day, a refresh token for 90")

    def _redeem(self) -> None:
        name = self._settings.admin_username
        try:
            self._admin.sign_in(name, self._settings.admin_password)
        except RefusedError as refused:
            if refused.code != "invalid_credentials":
                raise
            raise SettingsError(
                f"{name} does not sign in here with this password. Say which: ADMIN_USERNAME=… ADMIN_PASSWORD=… make demo"
            ) from None
        code = self._admin.call("POST", "/codes", {"value": 50_000}, key=new_key())["redeem_code"]
        self._tell("POST /codes", f"the admin makes {code}, worth 50,000 credits (5 CNY)")
        before = self._client.call("GET", "/users/me")["credits_left"]
        key = new_key()
        after = self._client.call("POST", "/users/me/credits", {"redeem_code": code}, key=key)
        promise(after["credits_left"] == before + 50_000, "a redeemed code brings what it is worth")
        again = self._client.call("POST", "/users/me/credits", {"redeem_code": code}, key=key)
        promise(again == after, "the same Idempotency-Key gives the same answer")
        self._tell("POST /users/me/credits", f"redeemed: {after['credits_left']:,}; sent again, it changes nothing")

    def _answer(self, preset_id: str) -> Start:
        question = {
            "chat": {"preset_id": preset_id, "title": "Demo"},
            "messages": [{"role": "user", "content": QUESTION}],
        }
        key, positions = new_key(), list[str]()
        self._tell("POST /tasks/stream", f"one request opens a chat, asks and is answered: {QUESTION}")
        start, end = self._followed(self._shown(self._client.ask(question, key), positions))
        chat_id = start.chat_id
        repeated, same = self._followed(self._client.ask(question, key))
        promise((repeated.task_id, same) == (start.task_id, end), "the same Idempotency-Key asks nothing new")
        self._tell("POST /tasks/stream with the same Idempotency-Key", "the same answer: asked and paid once")
        chat = self._client.call("GET", f"/chats/{chat_id}")
        stored = chat["messages"][-1]
        promise(stored["content"] == end.content, "the message in the chat is the text that was streamed")
        promise(stored == end.message, "the stream's end has the message as it is stored")
        promise(chat["version"] == end.chat_version, "the stream's end has the chat's version")
        left = self._client.call("GET", "/users/me")["credits_left"]
        promise(left == end.credits_left, "the stream's end says what is left")
        promise(stored["credits"] == end.credits, "the message names what the answer cost")
        self._tell(
            f"GET /chats/{chat_id}",
            f"the same text, as a message: {end.output_tokens} tokens for {end.credits} credits",
        )
        middle = positions[len(positions) // 2]
        rest = "".join(item.text for item in self._client.follow(start.resume_url, middle) if isinstance(item, Piece))
        promise(rest == end.content[int(middle) :], "a stream goes on exactly where it is asked to")
        self._tell("GET …/stream with Last-Event-ID", f"from position {middle} on, again: …{rest[:30]}…")
        return start

    def _answer_again(self, answered: Start) -> None:
        _, end = self._followed(self._client.ask({"regenerate": answered.task_id}, new_key()))
        [*_, question, answer] = self._client.call("GET", f"/chats/{answered.chat_id}")["messages"]
        promise(answer == end.message, "an answer that is made again replaces the first one")
        promise(question["content"] == QUESTION, "the question stays when its answer is made again")
        self._tell("POST /tasks/stream", "with “regenerate”, a new answer replaces the last one")

    def _shown(self, items: Iterable[Start | Piece | End], positions: list[str]) -> Iterator[Start | Piece | End]:
        for item in items:
            if isinstance(item, Piece):
                positions.append(item.position)
                self._write(item.text)
            yield item
        self._write("\n")

    def _followed(self, items: Iterable[Start | Piece | End]) -> tuple[Start, End]:
        shown = ""
        for item in items:
            if isinstance(item, Start):
                start = item
            elif isinstance(item, End):
                promise(item.status == "finished", f"the answer finishes, and does not end as {item.status}")
                promise(item.content == shown, "the pieces that were streamed are the answer")
                end = item
            else:
                shown += item.text if item.kind == "content" else ""
        return start, end

    def _stop(self, chat_id: str) -> None:
        directive = "/sim tokens=3000 delay=20 " if self._simulated else ""
        message = {"role": "user", "content": directive + LONG_QUESTION}
        items = self._client.ask({"chat_id": chat_id, "messages": [message]}, new_key())
        with contextlib.closing(items):
            [start] = [item for item in itertools.islice(items, 1) if isinstance(item, Start)]
            self._tell("POST /tasks/stream", f"a long answer; {start.credits_held:,} credits are held meanwhile")
            seen = "".join(item.text for item in itertools.islice(items, PIECES_BEFORE_STOP) if isinstance(item, Piece))
        try:
            self._client.call("POST", "/tasks", {"chat_id": chat_id})
        except RefusedError as refused:
            promise(refused.code == "task_running", "a chat answers one question at a time")
            self._tell("POST /tasks", f"while it is answered, the chat takes no other: {refused.status} {refused.code}")
        else:
            raise BrokenPromiseError("a chat answers one question at a time")
        end = self._client.stop(start.task_id)
        promise(end.status == "stopped", f"a stop stops, and does not end as {end.status}")
        promise(end.content.startswith(seen), "what was streamed before a stop is kept")
        self._tell(
            f"POST /tasks/{start.task_id}/stop",
            f"stopped after {end.output_tokens} tokens, which is what it costs: {end.credits} credits",
        )

    def _ledger(self) -> None:
        ledger = self._client.call("GET", "/users/me/credits")
        total = sum(record["amount"] for record in ledger["credit_records"])
        promise(ledger["credits_held"] == 0, "nothing is held when nothing runs")
        promise(total == ledger["credits_left"], "the ledger adds up to what is left")
        self._tell("GET /users/me/credits", f"{ledger['credits_left']:,} left, the sum of this ledger:")
        for record in reversed(ledger["credit_records"]):
            self._write(f"     {record['amount']:>10,}  {record['kind']}\n")

    def _tell(self, call: str, result: str) -> None:
        self._console.print(f"{next(self._numbers):2}  {call}", style="bold", markup=False, soft_wrap=True)
        if result:
            self._write(f"    {result}\n")

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


def main() -> int:
    """Show the journey."""
    console = Console(highlight=False)
    try:
        settings = Settings.read()
        url = os.environ.get("AIDEER_URL") or settings.url
        with Client(url) as client, Client(url) as admin:
            Demo(client, admin, console, settings).run()
    except BrokenPromiseError as broken:
        console.print(f"Broken: {broken}.", style="red", markup=False, soft_wrap=True)
    except (NoStackError, SettingsError) as error:
        console.print(str(error), style="red", markup=False, soft_wrap=True)
    except RefusedError as refused:
        console.print(f"Refused: {explain(refused)}", style="red", markup=False, soft_wrap=True)
    except LostError:
        console.print("Broken: the stream was lost.", style="red")
    except KeyboardInterrupt:
        console.print()
    else:
        console.print("All as promised. Talk to it yourself: make chat", style="green")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
