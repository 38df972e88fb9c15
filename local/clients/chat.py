"""`make chat`: a conversation in the terminal, with a running stack.

The client writes the answer as it arrives and never redraws it, so the terminal alone breaks lines. Redrawing would require the
width of each emoji, and terminals differ on that.
"""

import argparse
import contextlib
import getpass
import json
import os
import re
import secrets
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from local.clients.client import Client, End, LostError, NoStackError, Piece, RefusedError, Start, new_key
from local.stack.settings import Settings, SettingsError

PROMPT = "\n› "
SYSTEM_PROMPT = "You are AIDeer, a friendly and concise assistant. Answer in the language of the question."
HELP = """Write, and Enter sends it. Ctrl-C stops an answer; at the prompt, Ctrl-C or Ctrl-D leaves.
/redeem CODE turns a redeem code into credits, /new starts another chat."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass
class Screen:
    """Writes one answer: reasoning dimmed, content plain."""

    console: Console
    written: dict[str, str] = field(default_factory=lambda: {"reasoning": "", "content": ""})

    def write(self, kind: str, text: str) -> None:
        """Add new text."""
        gap = "\n\n" if kind == "content" and self.written["reasoning"] and not self.written["content"] else ""
        # Remove control characters, because a model's text must not command the terminal. Block SIGINT, because Ctrl-C must not
        # interrupt between noting the text and writing it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.written[kind] += text
            self._raw(gap + _CONTROLS.sub("", text), dim=kind == "reasoning")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def complete(self, end: End) -> None:
        """Add the missing rest of the whole answer. If an answer was lost, text that was already shown stays."""
        for kind, whole in (("reasoning", end.reasoning), ("content", end.content)):
            shown = self.written[kind]
            if whole.startswith(shown) and whole != shown:
                self.write(kind, whole[len(shown) :])
        if any(self.written.values()):
            self._raw("\n")

    def _raw(self, text: str, *, dim: bool = False) -> None:
        self.console.print(Segments([Segment(text, Style(dim=dim))]), end="", soft_wrap=True)


class Conversation:
    """One user's chat, question by question. Without a `chat_id`, the first question opens a chat on the preset."""

    def __init__(self, client: Client, console: Console, preset_id: str, chat_id: str | None) -> None:
        self._client = client
        self._console = console
        self._preset_id = preset_id
        self._chat_id = chat_id

    def run(self) -> None:
        """Handle lines until the input ends."""
        while (line := self._next()) is not None:
            try:
                self._do(line)
            except RefusedError as refused:
                say(self._console, explain(refused), "red")
            except LostError:
                lost = "The connection is lost. The answer goes on without us, and will be in the chat."
                say(self._console, lost, "red")
            except KeyboardInterrupt:
                say(self._console, "\nInterrupted.", "red")

    def _next(self) -> str | None:
        """Return the next line that is not empty. Return None at the end of the input; Ctrl-C ends it too."""
        while True:
            try:
                if sys.stdin.isatty():
                    line = input(PROMPT)
                else:
                    line = sys.stdin.readline()
                    if not line:
                        return None
                    if line.strip():
                        print(PROMPT + line.strip(), flush=True)
            except (EOFError, KeyboardInterrupt):
                print()
                return None
            if line.strip():
                return line.strip()

    def _do(self, line: str) -> None:
        match line.split(maxsplit=1):
            case ["/redeem", code]:
                done = self._client.call("POST", "/users/me/credits", {"redeem_code": code}, key=new_key())
                say(self._console, f"{done['value']:,} credits more: {done['credits_left']:,} now.", "green")
            case ["/redeem"]:
                say(self._console, "Which code? /redeem CODE")
            case ["/new"]:
                self._chat_id = None
                say(self._console, "A new chat: nothing of before is part of it.")
            case ["/help"]:
                say(self._console, HELP)
            case _:
                self._ask({"messages": [{"role": "user", "content": line}]} | self._place())

    def _place(self) -> dict[str, object]:
        return {"chat_id": self._chat_id} if self._chat_id else {"chat": {"preset_id": self._preset_id}}

    def _ask(self, question: dict[str, object]) -> None:
        key, screen = new_key(), Screen(self._console)
        try:
            end = self._show(question, key, screen)
        except KeyboardInterrupt:
            # Ctrl-C may have come before the start of the answer. The same key finds the task that the question has, or gets.
            task = self._client.call("POST", "/tasks", question, key=key)
            self._chat_id = task["chat_id"]
            end = self._client.stop(task["task_id"])
        screen.complete(end)
        if end.status == "failed":
            say(self._console, f"{end.error} ({end.error_code})", "red")
        left = end.credits_left
        if left is None:  # a stop returns only how the answer ended
            left = self._client.call("GET", "/users/me")["credits_left"]
        say(self._console, f"{bill(end)} · {left:,} left")

    def _show(self, question: dict[str, object], key: str, screen: Screen) -> End:
        with contextlib.closing(self._client.ask(question, key)) as items:
            with self._console.status("…"):
                while isinstance(item := next(items), Start):
                    self._chat_id = item.chat_id
            while not isinstance(item, End):
                if isinstance(item, Piece):
                    screen.write(item.kind, item.text)
                item = next(items)
        return item


def say(console: Console, text: str, style: str = "dim") -> None:
    """Write a line of the client's own."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def bill(end: End) -> str:
    """Return the cost of an answer, and its tokens."""
    if end.status == "failed":
        return "Failed answers cost nothing"
    thought = f", {end.reasoning_tokens:,} of them thinking" if end.reasoning_tokens else ""
    tokens = f"{end.input_tokens:,} tokens in, {end.output_tokens:,} out{thought}"
    how = {"stopped": "stopped · ", "length": "cut at its longest · "}.get(end.finish_reason or "", "")
    return f"{how}{end.credits:,} credits for {tokens}"


def explain(refused: RefusedError) -> str:
    """Return a refusal in one line."""
    if refused.code == "insufficient_credits":
        body = refused.body
        return (
            f"Not enough credits: {body['credits_left']:,} left, and an answer needs {body['credits_needed']:,} set aside. "
            "/redeem CODE brings more."
        )
    if refused.code == "task_running":
        return "Another answer is being made in this chat. Try again when it has ended, or go on with /new."
    return f"{refused} ({refused.code or refused.status})"


def sign_in(client: Client, options: argparse.Namespace, users: Path) -> str:
    """Sign in as the requested user, or as the user kept for this stack, which is made if needed. Return the name."""
    if options.username:
        return _sign_in_as(client, options.username, options.password)
    kept = _read_kept(users)
    if client.url in kept:
        try:
            client.sign_in(*kept[client.url])
        except RefusedError as refused:  # the data of the stack was removed, so the kept user no longer exists
            if refused.code != "invalid_credentials":
                raise
        else:
            return kept[client.url][0]
    username, password = f"guest-{secrets.token_hex(3)}", secrets.token_urlsafe(12)
    client.call("POST", "/users", {"username": username, "password": password})
    client.sign_in(username, password)
    try:
        users.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        users.touch(mode=0o600)
        users.write_text(json.dumps({**kept, client.url: [username, password]}))
    except OSError as error:
        raise SettingsError(f"STATE_DIR {users.parent} cannot keep who you are: {error.strerror}.") from None
    return username


def _sign_in_as(client: Client, username: str, password: str | None) -> str:
    password = password or getpass.getpass(f"Password of {username}: ")
    try:
        client.sign_in(username, password)
    except RefusedError as refused:
        if refused.code != "invalid_credentials":
            raise
        try:
            client.call("POST", "/users", {"username": username, "password": password})
        except RefusedError as taken:
            if taken.code == "username_taken":
                raise refused from None
            detail = f"{refused} Nor can {username} be a new user: {taken}"
            raise RefusedError(taken.status, {"detail": detail, "code": taken.code}) from None
        client.sign_in(username, password)
    return username


def _read_kept(users: Path) -> dict[str, tuple[str, str]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
        found: dict[str, tuple[str, str]] = json.loads(users.read_text())
        return found
    return {}


def pick_preset(client: Client, console: Console, options: argparse.Namespace) -> str:
    """Return the id of a preset: the requested one, the chosen one, the only one, or a new one."""
    if options.preset:
        return str(client.call("GET", f"/presets/{options.preset}")["id"])
    wanted = {"model": options.model or "qwen-plus", **({"enable_thinking": True} if options.think else {})}
    presets = client.call("GET", "/presets?limit=20")
    if options.model or options.think:
        presets = [preset for preset in presets if preset["parameters"] == wanted]
    if not presets:
        new = {
            "title": "Thinking" if options.think else "Chat",
            "parameters": wanted,
            "messages": [{"role": "system", "content": SYSTEM_PROMPT}],
        }
        return str(client.call("POST", "/presets", new)["id"])
    chosen = 0
    if len(presets) > 1 and sys.stdin.isatty():
        for number, preset in enumerate(presets, 1):
            console.print(f"{number:3} {preset['title']} ({preset['parameters']['model']})", markup=False)
        while not 1 <= (chosen := _number(input("Which preset? [1] ") or "1")) <= len(presets):
            say(console, f"A number from 1 to {len(presets)}, please.")
        chosen -= 1
    return str(presets[chosen]["id"])


def _number(text: str) -> int:
    return int(text) if text.strip().isdecimal() else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="make chat",
        usage="make chat [ARGS='options']",
        description="A conversation in the terminal. AIDEER_URL says with which stack, if not with that of `make run`.",
    )
    parser.add_argument("--username", help="who you are, new or not (default: a guest who is kept in STATE_DIR)")
    parser.add_argument("--password", help="asked for where it is left out")
    parser.add_argument("--preset", help="the id of a preset")
    parser.add_argument("--model", help="a preset with this model, made if there is none")
    parser.add_argument("--think", action="store_true", help="a preset that thinks, made if there is none")
    parser.add_argument("--chat", help="the id of a chat to go on with")
    return parser.parse_args(arguments)


def talk(options: argparse.Namespace, console: Console) -> None:
    """Sign in, find the preset and the chat, and start the conversation."""
    settings = Settings.read()
    with Client(os.environ.get("AIDEER_URL") or settings.url) as client:
        client.check()
        username = sign_in(client, options, settings.state_dir / "chat.json")
        if options.chat:
            preset_id = client.call("GET", f"/chats/{options.chat}?limit=1")["preset_id"]
        else:
            preset_id = pick_preset(client, console, options)
        left = client.call("GET", "/users/me")["credits_left"]
        say(console, f"AIDeer at {client.url} · {username} · {left:,} credits", "bold")
        say(console, HELP)
        Conversation(client, console, preset_id, options.chat).run()


def main() -> int:
    """Run the conversation until the user leaves."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() edits lines with it
    for stream in (sys.stdin, sys.stdout):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    console = Console(highlight=False)
    try:
        talk(parse(sys.argv[1:]), console)
    except (NoStackError, SettingsError) as error:
        say(console, str(error), "red")
    except RefusedError as refused:
        say(console, explain(refused), "red")
    except LostError:
        say(console, "The connection is lost.", "red")
    except (KeyboardInterrupt, EOFError):
        console.print()
        return 0
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
