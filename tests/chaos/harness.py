"""One case's users and what is theirs: made afresh, brought to rest by the system's own means, and looked at whole.

What the tables hold is compared with the rules of aideer/billing/credits.py and with what clients and viewers were told.
"""

import asyncio
import itertools
import json
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest import mock
from urllib.parse import urlsplit
from uuid import uuid4

import jobs.run
import tasks.on_queued
from aideer.accounts import api_keys
from aideer.billing import credits, pricing
from aideer.chats import change_feed
from aideer.core import aws, clock, settings
from aideer.core.usage import Usage
from aideer.data import changes
from aideer.data import jobs as jobs_of_system
from aideer.data.base import new_id
from aideer.data.models import Chat, Code, CreditEntry, Identity, Message, Preset, Record, Task, User
from aideer.prompts import prompts
from aideer.providers import dashscope
from aideer.providers.dashscope import Chunk
from aideer.security import auth
from aideer.tasks import control as tasks_of_users
from aideer.tasks import executor
from local.simulators.dashscope import Server
from tasks import stream as stream_function
from tests.chaos.fake_time import Clock
from tests.chaos.fault_injection import Abandoned, Attempt, Wire, actor
from tests.events import Stream, parse
from tests.support import Answer, Api, Context, Person, http_event, make_chat, sweep
from v1 import serve as v1_function

CREDITS_LOST, CREDITS_CREATED = "credits lost", "credits created"
ANSWERS_LOST, BILLED_TWICE, CALLED_TWICE = "answers lost", "answers billed twice", "model called twice for a task"
UNPAID = "bills neither paid nor counted"
STUCK, BROKEN = "chats blocked or holds left", "promises broken"
OUTCOMES = (CREDITS_LOST, CREDITS_CREATED, ANSWERS_LOST, BILLED_TWICE, CALLED_TWICE, UNPAID, STUCK, BROKEN)
REPLACED_SECONDS = 21 * 60
SWEEP_SECONDS = 65


def completions_of(user_id: str) -> str:
    """In the place of the chat that completions do not have. All of a user in a case ask the same question."""
    return f"completions of {user_id}"


def _place(task: Task) -> str:
    return task.chat_id or completions_of(task.user_id)


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must not be: which of OUTCOMES, and what exactly."""

    outcome: str
    what: str

    def __str__(self) -> str:
        return f"{self.outcome}: {self.what}"


@dataclass
class Bill:
    """What the provider told of one call, as far as an executor has read it."""

    model: str
    prompt: str
    usage: Usage = field(default_factory=Usage)
    thought: bool = False


_bills: list[Bill] = []


@contextmanager
def noted_bills() -> Iterator[None]:
    """Note what the provider bills for the answers that are made in this process."""
    real = dashscope.stream

    async def noting(model: str, messages: Any, *arguments: Any, **more: Any) -> AsyncGenerator[Chunk, None]:
        bill = Bill(model, json.dumps(messages, ensure_ascii=False))
        _bills.append(bill)
        async with aclosing(real(model, messages, *arguments, **more)) as answer:
            async for chunk in answer:
                bill.usage = bill.usage.maximum(chunk.usage)
                bill.thought = bill.thought or bool(chunk.reasoning)
                yield chunk

    with mock.patch.object(dashscope, "stream", noting):
        yield


@dataclass
class Viewing:
    """What one viewer of a task has been sent so far."""

    task_id: str
    status: int = 0
    sent: str = ""
    text_shown: threading.Event = field(default_factory=threading.Event)

    @property
    def start(self) -> dict[str, Any]:
        """The data of the start event, if that has been sent whole."""
        first, whole, _ = self.sent.partition("\n\n")
        started: dict[str, Any] = json.loads(first.partition("data: ")[2]) if self.status == 200 and whole else {}
        return started

    @property
    def stream(self) -> Stream:
        return parse(self.sent[: self.sent.rfind("\n\n") + 2])


class UiViewing(Viewing):
    """What a client of the AI SDK has been sent so far."""

    @property
    def start(self) -> dict[str, Any]:
        """The ids that the first chunk tells, if that has been sent whole."""
        first, whole, _ = self.sent.partition("\n\n")
        if self.status != 200 or not whole:
            return {}
        metadata: dict[str, Any] = json.loads(first.partition("data: ")[2])["messageMetadata"]
        return metadata

    @property
    def ended(self) -> bool:
        """Whether the client knows the end of the answer, good or bad."""
        return self.status == 200 and self.sent.endswith("data: [DONE]\n\n") and "stream_broken" not in self.sent


def accepted(tasks: Iterable[Task]) -> list[Task]:
    """The tasks that were accepted. A fence is none, and it can have a chat that was never opened."""
    return [task for task in tasks if not (task.closed_by or "").startswith("fence#")]


class World:
    """Users, chats and codes of one case."""

    api = Api()

    def __init__(self, wire: Wire, moved: Clock, provider: Server) -> None:
        self.clock = moved
        self.clock.ahead = 0.0
        self._wire = wire
        self._provider = provider
        self._provider.reset()
        _bills.clear()
        self.people: list[Person] = []
        self.granted: dict[str, int] = {}
        self.cursors: dict[str, str] = {}
        """Of the users' feeds of changes, before they had any chat."""
        self.chats: dict[str, Chat] = {}
        """As they were made."""
        self.gone: set[str] = set()
        """Chats whose deletion was answered with success."""
        self.ended: set[str] = set()
        """Users whose deletion was."""
        self.acknowledged: dict[str, list[str]] = defaultdict(list)
        """By chat: contents that must be in it."""
        self.rewritten: set[str] = set()
        """Tasks whose answers a user has changed or removed."""
        self.codes: list[str] = []
        self.viewings: list[Viewing] = []
        self.model_calls = 1
        """How often the model may be asked for one task."""
        self.messages: list[str] = []
        """Bodies of the tasks queue, as it has really got them."""
        self.jobs: list[str] = []
        self._task_ids: set[str] = set()
        self.job_keys: set[tuple[str, str]] = set()
        self._threads: set[str] = set()
        wire.heard = self._happened
        # As in a process that has just begun.
        prompts.get_preset.cache_clear()
        aws._secrets.clear()
        executor._working.clear()

    # --- what there is

    def person(self, balance: int = 1_000_000) -> Person:
        """A user with so many credits, signed in. Only its password is none."""
        name, now = f"u{uuid4().hex[:12]}", clock.timestamp()
        user = User(new_id(), username=name, nickname=name, permission=1, create_time=now, update_time=now)
        credits.sign_up(user, Identity(f"password#{name}", user_id=user.id, password_hash="none"), balance)
        pair = auth.issue_pair(user, "password")
        someone = Person(user.id, name, "none", pair["access_token"], pair["refresh_token"])
        self.people.append(someone)
        self.granted[user.id] = balance
        self.cursors[user.id] = change_feed.read(user, None, 1).next
        return someone

    def chat(self, owner: Person, directive: str = "/sim tokens=4 delay=1", **parameters: Any) -> Chat:
        """A chat with a question that nobody else asks."""
        question = f"{directive} {uuid4().hex}"
        chat = make_chat(owner, question, parameters=parameters)
        self.chats[chat.id] = chat
        self.acknowledged[chat.id].append(question)
        return chat

    def adopt(self, chat_id: str, question: str) -> None:
        """Look at this chat too, which a request has opened with this question."""
        self.chats[chat_id] = Chat.get(chat_id, consistent_read=True)
        self.acknowledged[chat_id].append(question)

    def code(self, value: int = 100, max_uses: int = 1) -> str:
        """A redeem code."""
        text = f"CHAOS-{uuid4().hex[:12].upper()}"
        Code(text, value=value, max_uses=max_uses, create_time=clock.timestamp()).save()
        self.codes.append(text)
        return text

    def deleted(self, someone: Person) -> None:
        """Note that a user was deleted, and so all that is theirs."""
        self.ended.add(someone.id)
        self.gone |= {chat.id for chat in self.chats.values() if chat.owner_id == someone.id}

    def accepted(self, owner: Person, chat: Chat, **body: Any) -> dict[str, Any]:
        """What POST /tasks answers where nothing is broken."""
        answer = self.ask(owner, chat, **body)
        assert answer.status == 200, answer.body
        accepted: dict[str, Any] = answer.json
        return accepted

    def ask(self, owner: Person, chat: Chat, key: str | None = None, **body: Any) -> Answer:
        """POST /tasks."""
        headers = {"Idempotency-Key": key} if key else {}
        return self.api(
            "tasks.create", "POST", "/tasks", json={"chat_id": chat.id, **body}, user=owner, headers=headers
        )

    def note_task(self, task_id: str) -> None:
        """Look at this task too, which another process has made."""
        self._task_ids.add(task_id)

    def note_jobs(self) -> None:
        """Look at the jobs of these chats too, which another process has written."""
        for job in jobs_of_system.list_due(clock.now() + REPLACED_SECONDS):
            if job.data.get("chat_id") in self.chats:
                self.job_keys.add((job.pk, job.sk))

    def tasks(self) -> list[Task]:
        """All tasks of this case, as stored."""
        # A sweep also works for users that earlier tests have left behind.
        own = {person.id for person in self.people}
        found = []
        for task_id in sorted(self._task_ids):
            with suppress(Task.DoesNotExist):
                found.append(Task.get(task_id, consistent_read=True))
        return [task for task in found if task.user_id in own]

    def open_tasks(self) -> list[Task]:
        """Those that have not ended."""
        return [task for task in self.tasks() if task.status in ("pending", "running")]

    # --- what happens

    def deliver(self, body: str, seconds: float = 60.0) -> bool:
        """Give one message to the tasks queue's consumer; whether it is done with."""
        record = {"messageId": uuid4().hex, "body": body}
        return not tasks.on_queued.handler({"Records": [record]}, Context(seconds=seconds))["batchItemFailures"]

    def work(self, body: str) -> bool:
        """Give one message to the jobs queue's consumer; whether it is done with."""
        record = {"messageId": uuid4().hex, "body": body}
        return not jobs.run.handler({"Records": [record]}, Context(seconds=60.0))["batchItemFailures"]

    def watching(self, task_id: str, url: str) -> "tuple[Viewing, threading.Thread]":
        """A viewer at the streaming door, in a thread that stands for its process, the actor "executor"."""
        viewing = Viewing(task_id)
        self.viewings.append(viewing)
        parts = urlsplit(url)
        thread = threading.Thread(target=self._watch, args=(viewing, _request("GET", parts.path, parts.query)))
        thread.start()
        return viewing, thread

    def asked(self, owner: Person, key: str, body: dict[str, Any]) -> Viewing:
        """POST /tasks/stream in the same way, waited for. A body of the AI SDK's is sent to POST /ui/chat."""
        if is_ui(body):
            return self.asked_ui(owner, key, body)
        viewing = Viewing("")
        scope = question_scope(owner.token, key)
        thread = threading.Thread(target=self._watch, args=(viewing, scope, json.dumps(body).encode()))
        thread.start()
        thread.join()
        if start := viewing.start:
            viewing.task_id = start["task_id"]
            self.viewings.append(viewing)
        return viewing

    def asked_ui(self, owner: Person, key: str, body: dict[str, Any]) -> UiViewing:
        """POST /ui/chat in the same way, waited for."""
        viewing = UiViewing("")
        scope = ui_scope(owner.token, key)
        thread = threading.Thread(target=self._watch, args=(viewing, scope, json.dumps(body).encode()))
        thread.start()
        thread.join()
        return viewing

    def completed(self, key: str, body: dict[str, Any], headers: dict[str, str]) -> Viewing:
        """POST /v1/chat/completions by an API key, in the same way, waited for."""
        viewing = Viewing("")
        arguments = (viewing, completion_scope(key, headers), json.dumps(body).encode(), v1_function.app)
        thread = threading.Thread(target=self._watch, args=arguments)
        thread.start()
        thread.join()
        return viewing

    def watched(self, task_id: str, url: str) -> Viewing:
        """The same, waited for."""
        viewing, thread = self.watching(task_id, url)
        thread.join()
        return viewing

    def waited(self, task_id: str, owner: Person) -> Answer:
        """One answer of the door that cannot stream, in a thread with an event loop of its own, as Lambda's main one has."""
        event = http_event("GET", f"/tasks/{task_id}/stream?after=0", token=owner.token, parameters={"id": task_id})
        told: list[Answer] = []

        def invoke() -> None:
            with asyncio.Runner() as runner, suppress(Abandoned):
                asyncio.set_event_loop(runner.get_loop())
                result = stream_function.handler(event, Context())
                told.append(Answer(result["statusCode"], result["headers"], result["body"]))

        thread = threading.Thread(target=invoke)
        thread.start()
        thread.join()
        if self._wire.is_dead():  # Mangum makes an answer of anything
            raise Abandoned
        return told[0]

    def _watch(
        self, viewing: Viewing, scope: dict[str, Any], body: bytes = b"", app: Any = stream_function.app
    ) -> None:
        actor.set("executor")

        async def process() -> None:
            loop, main = asyncio.get_running_loop(), asyncio.current_task()
            assert main
            with self._wire.mourned("executor", lambda: loop.call_soon_threadsafe(main.cancel)):
                await call(scope, viewing, body, app=app)

        try:
            asyncio.run(process())  # which ends what goes on after the answer, as Lambda freezes it
        except (Abandoned, asyncio.CancelledError):
            pass
        except Exception:  # the server's answer to what its application raises
            viewing.status = 500

    # --- how it comes to rest

    def rest(self) -> None:
        """Deliver, sweep and work until nothing is left to do, as the queues and the schedule would."""
        for _ in range(20):
            for body in self.messages:
                self.deliver(body)
                self.deliver(body)  # SQS may bring any message twice
            self.messages.clear()
            if not self.open_tasks():
                break
            self.clock.ahead += SWEEP_SECONDS
            sweep()
        for _ in range(6):
            while self.jobs:
                self.work(self.jobs.pop())
            if not self._due():
                break
            self.clock.ahead += REPLACED_SECONDS
            sweep()
        if self.messages or self.open_tasks():  # a job has had a title's task accepted
            self.rest()

    def _due(self) -> bool:
        for pk, sk in sorted(self.job_keys):
            with suppress(Record.DoesNotExist):
                Record.get(pk, sk, consistent_read=True)
                return True
        return False

    # --- what must not be

    def violations(self) -> Iterator[Violation]:
        """Look at everything that these users have."""
        stored = self.tasks()
        for someone in self.people:
            theirs = [task for task in stored if task.user_id == someone.id]
            yield from (self._end(someone, theirs) if someone.id in self.ended else self._money(someone, theirs))
            if someone.id in self.cursors.keys() - self.ended:  # a user that has just signed up has no chat
                yield from self._feed(someone)
        for chat_id in self.chats:
            yield from self._chat(chat_id, [task for task in stored if task.chat_id == chat_id])
        for task in stored:
            replaced = any(
                new.status == "finished" and (new.thread, new.replaces) == (task.thread, task.answer_n)
                for new in stored
            )
            replaced = bool(replaced and task.answer_n) or task.id in self.rewritten
            yield from self._answer(task, replaced=replaced)
        yield from self._asked(stored)
        yield from self._redeemed()
        if self._due():
            yield Violation(STUCK, "a job that is never done")

    def _money(self, someone: Person, stored: list[Task]) -> Iterator[Violation]:
        user = someone.user
        entries = list(CreditEntry.query(someone.id, consistent_read=True))
        held = credits.sum_holds(user)
        if user.credits < 0:
            yield Violation(CREDITS_CREATED, f"I1: {user.credits}")
        ledger = sum(entry.amount for entry in entries)
        redeemed = sum(entry.amount for entry in entries if entry.kind == "redeem")
        spent = sum(int(task.credits) for task in stored if task.credits)
        expected = self.granted[someone.id] + redeemed - spent
        for which, amount, due in (
            ("I2", user.credits + held, ledger),
            ("what was granted and spent", user.credits + held, expected),
        ):
            if amount != due:
                yield Violation(CREDITS_LOST if amount < due else CREDITS_CREATED, f"{which}: {amount}, not {due}")
        yield from self._keys(someone, entries, stored)
        still_open = {task.id: task.hold for task in stored if task.status in ("pending", "running")}
        if dict(user.holds.attribute_values) != still_open:
            yield Violation(STUCK, f"I3: holds {user.holds.attribute_values}, open {still_open}")
        counted = Record.query(f"uncovered#{someone.id}", consistent_read=True)
        paid = spent + sum(record.uncovered or 0 for record in counted)
        if (bill := sum(self._bill(tasks) for tasks in self._by_chat(accepted(stored)))) > paid:
            yield Violation(UNPAID, f"I6: {paid} of {bill}")
        for task in stored:
            billed = sum(entry.task_id == task.id for entry in entries)
            if billed != (1 if task.status in ("finished", "stopped") else 0):
                yield Violation(BILLED_TWICE, f"I4: a {task.status} task with {billed} entries")
            if task.status in ("pending", "running"):
                yield Violation(STUCK, f"a task that stays {task.status}")

    def _keys(self, someone: Person, entries: list[CreditEntry], stored: list[Task]) -> Iterator[Violation]:
        """The room of each API key is its limit less what it has spent and holds."""
        for key in api_keys.list_all(someone.user, someone.id):
            spent = -sum(entry.amount for entry in entries if entry.key_id == key.id)
            held = sum(int(task.hold) for task in stored if task.is_open and task.key and task.key["id"] == key.id)
            if key.credits_used != spent + held:
                yield Violation(STUCK, f"a key that counts {key.credits_used}, of {spent} and {held}")

    def _feed(self, someone: Person) -> Iterator[Violation]:
        """Whoever follows the feed of changes is told of each chat that is not as it was made."""
        told, _ = self.follow(someone, self.cursors[someone.id])
        for chat_id, made in self.chats.items():
            now = self.stored_chat(chat_id)
            changed = now is None or now.deleted or now.version != made.version
            if changed and made.owner_id == someone.id and chat_id not in told:
                yield Violation(BROKEN, "a change of a chat that the feed does not tell")

    def follow(self, someone: Person, cursor: str) -> tuple[set[str], str]:
        """The chats that a user's feed tells from a cursor on, and the cursor after them."""
        told: set[str] = set()
        while True:
            page = change_feed.read(someone.user, cursor, 50)
            told |= {change.chat_id for change in page.changes}
            cursor = page.next
            if not page.more:
                return told, cursor

    def _by_chat(self, stored: list[Task]) -> list[list[Task]]:
        chats: defaultdict[str, list[Task]] = defaultdict(list)
        for task in stored:
            chats[_place(task)].append(task)
        return list(chats.values())

    def _bill(self, stored: list[Task]) -> int:
        """What the provider bills for the tasks of one chat, each by the tariff of its model."""
        marker = self.acknowledged[_place(stored[0])][0].split()[-1]
        tariffs = {task.model: task.tariff for task in stored}
        bills = [bill for bill in _bills if marker in bill.prompt]
        return sum(pricing.compute_cost(tariffs[bill.model], bill.usage, thought=bill.thought) for bill in bills)

    def _end(self, someone: Person, stored: list[Task]) -> Iterator[Violation]:
        if list(User.query(someone.id, consistent_read=True)):
            yield Violation(STUCK, "a deleted user who is still there")
        if any(task.status in ("pending", "running") for task in stored):
            yield Violation(STUCK, "a task of a user who is gone")
        left = {
            "ledger": list(CreditEntry.query(someone.id, consistent_read=True)),
            "a name": list(Identity.query(f"password#{someone.username}", consistent_read=True)),
            "chats": list(Chat.by_create_time.query(someone.id)),
            "presets": list(Preset.by_owner.query(someone.id)),
            "likes": list(Record.query(f"likes#{someone.id}", consistent_read=True)),
            "a feed of changes": list(Record.query(changes.key(someone.id), consistent_read=True)),
            "API keys": list(Record.query(f"api_keys#{someone.id}", consistent_read=True)),
            "a note of an administrator": list(Record.query("administrators", Record.sk == someone.id)),
        }
        for what in (name for name, items in left.items() if items):
            yield Violation(BROKEN, f"{what} of a user who is gone")

    def _chat(self, chat_id: str, stored: list[Task]) -> Iterator[Violation]:
        chat = self.stored_chat(chat_id)
        threads = {thread for thread in self._threads if thread.startswith(f"{chat_id}#")}
        if chat is None:
            for thread in threads | {self.chats[chat_id].thread}:
                if list(Message.query(thread, consistent_read=True, limit=1)):
                    yield Violation(STUCK, "messages of a chat that is gone")
            return
        if chat_id in self.gone or chat.deleted:
            yield Violation(STUCK, "a deleted chat that is still there")
        if chat.active_task:
            status = {task.id: task.status for task in stored}.get(chat.active_task, "no task")
            yield Violation(STUCK, f"a chat blocked by a {status}")
        shown = self.shown(chat)
        if len(shown) != chat.message_count:
            yield Violation(BROKEN, f"message_count {chat.message_count} of {len(shown)}")
        if any(message.n >= chat.next_n for message in shown):
            yield Violation(BROKEN, "a message beyond next_n")
        yield from self._branches(chat)
        stored_threads = chat.tree.threads
        contents = [message.content for thread in stored_threads for message in self._thread(thread)]
        for content in self.acknowledged[chat_id]:
            if contents.count(content) != 1:
                yield Violation(BROKEN, f"{contents.count(content)} of a message that was accepted once")
        for thread in threads.difference(stored_threads):
            if list(Message.query(thread, consistent_read=True, limit=1)):
                yield Violation(STUCK, "a thread that is still there, and no branch of the chat")

    def _thread(self, thread: str) -> list[Message]:
        return list(Message.query(thread, consistent_read=True))

    def shown(self, chat: Chat) -> list[Message]:
        """The messages of a chat's shown path."""
        return [
            message
            for segment in chat.path
            for message in self._thread(segment.thread)
            if segment.clip(int(message.n), int(message.n))
        ]

    def _branches(self, chat: Chat) -> Iterator[Violation]:
        """Each branch has the messages that it counts, and can be shown to its end."""
        if not chat.branches:
            return
        for branch_id, thread in zip(chat.tree.ids, chat.tree.threads, strict=True):
            tree = chat.tree
            tree.show(branch_id)
            unshown = Chat(**chat.attribute_values)
            fields = tree.to_fields()
            unshown.branch, unshown.branches = fields["branch"], fields["branches"]
            unshown.message_count, unshown.next_n = fields["message_count"], fields["next_n"]
            path = self.shown(unshown)
            if len(path) != fields["message_count"] or any(message.n >= fields["next_n"] for message in path):
                yield Violation(BROKEN, f"branch {branch_id} counts {fields}, and has {len(path)} messages")
            if not self._thread(thread) and branch_id != "main":
                yield Violation(BROKEN, f"branch {branch_id} has no message")

    def stored_chat(self, chat_id: str) -> Chat | None:
        """A chat as stored."""
        try:
            return Chat.get(chat_id, consistent_read=True)
        except Chat.DoesNotExist:
            return None

    def _answer(self, task: Task, *, replaced: bool) -> Iterator[Violation]:
        if task.status in ("pending", "running"):
            return
        kept = tasks_of_users.read_text(task)
        chat = self.stored_chat(_place(task))
        # A title's text is the chat's title, a new answer that failed leaves the old one, and what is deleted is gone.
        has_message = (
            chat is not None and task.answer_n and not replaced and not (task.replaces and task.status == "failed")
        )
        if has_message and task.text_length:
            try:
                message = Message.get(task.thread, task.answer_n, consistent_read=True)
            except Message.DoesNotExist:
                yield Violation(ANSWERS_LOST, f"no message of a {task.status} answer")
            else:
                if message.task_id != task.id or message.finish_reason != task.finish_reason:
                    yield Violation(ANSWERS_LOST, "another message in its place")
            if len(kept) != task.text_length:
                yield Violation(ANSWERS_LOST, f"{len(kept)} of {task.text_length} characters")
        for viewing in self.viewings:
            if viewing.task_id == task.id:
                # Of what was interrupted, and of what has no message any more, the log is what is kept, and it may lag.
                yield from self._shown(
                    task, kept, viewing, whole=bool(has_message) and task.error_code != "interrupted"
                )

    def _shown(self, task: Task, kept: credits.Text, viewing: Viewing, *, whole: bool) -> Iterator[Violation]:
        shown = viewing.stream
        if viewing.status >= 500 and viewing.status != 503:
            yield Violation(BROKEN, f"the stream answered {viewing.status}")
        if shown.final and (shown.final["status"], shown.final["credits"]) != (task.status, task.credits):
            yield Violation(BROKEN, "the final event is not how it ended")
        if not whole and viewing.status == 200:  # who was refused was shown nothing
            if not (shown.content.startswith(kept.content) and shown.reasoning.startswith(kept.reasoning)):
                yield Violation(ANSWERS_LOST, "what is kept was never shown")
            return
        if not (kept.content.startswith(shown.content) and kept.reasoning.startswith(shown.reasoning)):
            yield Violation(ANSWERS_LOST, "what was shown is not what is stored")
        if shown.final and (shown.final["content"], shown.final["reasoning"]) != (kept.content, kept.reasoning):
            yield Violation(ANSWERS_LOST, "the final event is not what is stored")

    def count_calls(self, marker: str) -> int:
        """How often the model was asked with this text."""
        return len(self.find_prompts(marker))

    def find_prompts(self, marker: str) -> list[str]:
        """The prompts with this text."""
        return [said for said in self._prompts() if marker in said]

    def _prompts(self) -> list[str]:
        requests = self._provider.requests()
        return [json.dumps(one["body"]["input"], ensure_ascii=False) for one in requests if "body" in one]

    def _asked(self, stored: list[Task]) -> Iterator[Violation]:
        asked = self._prompts()
        tasks = sorted(accepted(stored), key=_place)
        for chat_id, chat_tasks in itertools.groupby(tasks, key=_place):
            marker = self.acknowledged[chat_id][0].split()[-1]
            calls, allowed = sum(marker in said for said in asked), self.model_calls * len(list(chat_tasks))
            if calls > allowed:
                yield Violation(CALLED_TWICE, f"{calls} calls for {allowed}")

    def _redeemed(self) -> Iterator[Violation]:
        entries = [entry for person in self.people for entry in CreditEntry.query(person.id, consistent_read=True)]
        for text in self.codes:
            code = Code.get(text, consistent_read=True)
            by = [entry.user_id for entry in entries if entry.code == text]
            uses = Record.query(credits.redemptions_key(text), consistent_read=True)
            # Of users whose ledgers are gone. The record names the user until the deletion has come to the ledger.
            by += [use.sk for use in uses if use.sk in self.ended or use.sk.startswith("deleted#")]
            if len(by) != len(set(by)) or len(by) > code.max_uses:
                yield Violation(CREDITS_CREATED, f"I5: redeemed {len(by)} times")
            if len(by) != code.used:
                yield Violation(BROKEN, f"I5: used {code.used}, redeemed {len(by)}")

    # --- what AWS was really given

    def _happened(self, attempt: Attempt) -> None:
        body = attempt.body
        if attempt.operation == "SendMessage":
            (self.messages if body["QueueUrl"] == settings.TASKS_QUEUE_URL else self.jobs).append(body["MessageBody"])
        puts = [(body["TableName"], body["Item"])] if attempt.operation == "PutItem" else []
        for item in body.get("TransactItems", []):
            if put := item.get("Put"):
                puts.append((put["TableName"], put["Item"]))
        if attempt.operation == "BatchWriteItem":
            for table, requests in body["RequestItems"].items():
                puts += [(table, request["PutRequest"]["Item"]) for request in requests if "PutRequest" in request]
        for table, item in puts:
            if table == settings.TASKS_TABLE:
                self._task_ids.add(item["id"]["S"])
            elif table == settings.MESSAGES_TABLE:
                self._threads.add(item["thread"]["S"])
            elif (
                table == settings.RECORDS_TABLE
                and item["pk"]["S"].startswith("jobs#")
                # The job of a preset's version waits for a day.
                and item["sk"]["S"] < clock.timestamp(clock.now() + 2 * REPLACED_SECONDS)
            ):
                self.job_keys.add((item["pk"]["S"], item["sk"]["S"]))


async def call(
    scope: dict[str, Any],
    viewing: Viewing,
    body: bytes,
    heard: Callable[[Viewing], object] = bool,
    app: Any = stream_function.app,
) -> None:
    """Call the streaming door, or another app, noting what is sent as it is sent. `heard` is called after each part."""
    never = asyncio.Event()
    received = [body]

    async def receive() -> dict[str, Any]:
        if received:
            return {"type": "http.request", "body": received.pop(), "more_body": False}
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        viewing.status = message.get("status", viewing.status)
        viewing.sent += message.get("body", b"").decode()
        if '"content"' in viewing.sent:
            viewing.text_shown.set()
        heard(viewing)

    await app(scope, receive, send)


def question_scope(token: str, key: str) -> dict[str, Any]:
    """A POST /tasks/stream."""
    headers = {"authorization": f"Bearer {token}", "idempotency-key": key, "content-type": "application/json"}
    return _request("POST", "/api/v1/tasks/stream", "", headers)


def completion_scope(key: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """A POST /v1/chat/completions."""
    sent = {"authorization": f"Bearer {key}", "content-type": "application/json", **(headers or {})}
    return _request("POST", "/v1/chat/completions", "", sent)


def ui_scope(token: str, key: str) -> dict[str, Any]:
    """A POST /ui/chat. The key counts for a regeneration alone."""
    headers = {"authorization": f"Bearer {token}", "idempotency-key": key, "content-type": "application/json"}
    return _request("POST", "/api/v1/ui/chat", "", headers)


def is_ui(body: dict[str, Any]) -> bool:
    """Whether a body is the AI SDK's."""
    return "trigger" in body


def ui_body(chat_id: str, content: str, message_id: str | None = None, **more: Any) -> dict[str, Any]:
    """A body of the AI SDK's, with one message."""
    message = {"id": message_id or uuid4().hex[:16], "role": "user", "parts": [{"type": "text", "text": content}]}
    return {"id": chat_id, "trigger": "submit-message", "messages": [message], **more}


def find_contents(body: dict[str, Any]) -> list[str]:
    """The messages that a question brings. To answer again brings none."""
    if not is_ui(body):
        return [message["content"] for message in body.get("messages", [])]
    return [body["messages"][-1]["parts"][0]["text"]] if body["trigger"] == "submit-message" else []


def _request(method: str, path: str, query: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    sent = {"host": "stream.test", **(headers or {})}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "server": ("stream.test", 80),
        "client": ("203.0.113.9", 1),
    }
