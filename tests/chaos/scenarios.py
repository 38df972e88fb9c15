"""What is broken call by call: everything that moves credits or text, each as a client, a queue or the schedule sets it off.

A scenario is set up without a fault, `act`s with one, and, where its client would, does the same `again`. `check` looks at what
only this scenario can know; World.violations knows the rest.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar
from uuid import uuid4

from aideer.accounts import api_keys
from aideer.billing import topups
from aideer.chats import likes
from aideer.core import aws, clock, settings
from aideer.data import jobs
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Code, Identity, Message, Preset, Record, Task, User
from aideer.security import api_keys as stored_keys
from aideer.tasks import conversations, leases, stream_log
from tests.api_keys import complete, find_room, make_key
from tests.chaos.harness import (
    ANSWERS_LOST,
    BILLED_TWICE,
    BROKEN,
    STUCK,
    Violation,
    World,
    accepted,
    completions_of,
    ui_body,
)
from tests.support import Answer, Person, sweep

SCENARIOS: list[type["Scenario"]] = []
PRESET = {
    "title": "One",
    "type": "chat_generation",
    "visibility": "private",
    "parameters": {"model": "qwen-plus"},
    "messages": [{"role": "system", "type": "text", "content": "Be kind.", "visibility": False}],
}


class Scenario:
    """One thing that is done."""

    name: ClassVar[str]
    tries: ClassVar[int] = 1
    """How often a client does it until it is told that it is done."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "name" in vars(cls):
            SCENARIOS.append(cls)

    def __init__(self, world: World) -> None:
        self.world = world
        self.answers: list[Answer | None] = []
        """What the client was told, None where it was told nothing."""
        self.me = world.person()
        self.prepare()

    def prepare(self) -> None:
        """Set up what it needs."""

    def act(self) -> None:
        """Do it."""
        raise NotImplementedError

    def told(self, call: Callable[[], Answer]) -> None:
        """Note the answer of a call, as soon as the client has it."""
        self.answers.append(None)
        self.answers[-1] = call()

    def recover(self) -> None:
        """Do what the client does next, and what the system does by itself."""
        for _ in range(self.tries - 1):
            if not self.succeeded:
                self.act()
        self.world.rest()

    @property
    def succeeded(self) -> list[Answer]:
        """The answers that say that it is done."""
        return [answer for answer in self.answers if answer and answer.status < 300]

    def check(self) -> Iterator[Violation]:
        """What must not be, beside what World.violations finds."""
        for answer in self.answers:
            if answer and answer.status >= 500 and answer.status != 503:
                yield Violation(BROKEN, f"answered {answer.status}: {answer.body}")
        yield from self.kept()

    def kept(self) -> Iterator[Violation]:
        """Promises that were not kept."""
        yield from ()


# --- accepting


class Accept(Scenario):
    name = "POST /tasks with a key, for a viewer"
    tries = 3
    key: str | None = "once"
    body: ClassVar[dict[str, Any]] = {}

    def prepare(self) -> None:
        self.chat = self.world.chat(self.me)

    def act(self) -> None:
        self.told(lambda: self.world.ask(self.me, self.chat, self.key, **self.body))

    def kept(self) -> Iterator[Violation]:
        ids = [answer.json["task_id"] for answer in self.succeeded]
        stored = {task.id for task in self.world.tasks()}
        if not set(ids) <= stored:
            yield Violation(BROKEN, "accepted, and not there")
        if self.key and (len(set(ids)) > 1 or len(stored) != 1):
            yield Violation(BROKEN, f"{len(stored)} tasks of one key")
        if self.key and len({answer.json["stream_url"] for answer in self.succeeded}) > 1:
            yield Violation(BROKEN, "another answer to the same key")
        if len(stored) > len(self.answers):
            yield Violation(BROKEN, f"{len(stored)} tasks of {len(self.answers)} requests")


class AcceptWithoutKey(Accept):
    name = "POST /tasks without a key"
    key = None


class AcceptForNobody(Accept):
    name = "POST /tasks with a key, for no viewer"
    body: ClassVar[dict[str, Any]] = {"stream": False}


class AcceptTitle(Accept):
    name = "POST /tasks for a title"
    body: ClassVar[dict[str, Any]] = {"type": "title_generation", "stream": False}


class Regenerate(Accept):
    name = "POST /tasks/{id}/regenerate"

    def prepare(self) -> None:
        super().prepare()
        self.old = self.world.accepted(self.me, self.chat, stream=False)["task_id"]
        self.world.rest()

    def act(self) -> None:
        path = f"/tasks/{self.old}/regenerate"
        headers = {"Idempotency-Key": "again"}
        self.told(lambda: self.world.api("tasks.regenerate", "POST", path, user=self.me, headers=headers))

    def kept(self) -> Iterator[Violation]:
        new = {task.id for task in self.world.tasks()} - {self.old}
        if len(new) != 1 or {answer.json["task_id"] for answer in self.succeeded} != new:
            yield Violation(BROKEN, f"{len(new)} tasks of one key")
        messages = list(Message.query(self.chat.thread, consistent_read=True))
        if [message.role for message in messages] != ["user", "assistant"]:
            yield Violation(BROKEN, f"{len(messages)} messages after an answer was made again")


# --- asking and streaming in one request


class AskAndStream(Scenario):
    """A client repeats the request with its key until it has seen the end."""

    name = "POST /tasks/stream with a message"
    tries = 3
    earlier: frozenset[str] = frozenset()
    """The tasks of earlier questions."""

    def prepare(self) -> None:
        self.chat = self.world.chat(self.me)
        self.question = f"/sim tokens=8 delay=2 {uuid4().hex}"

    def body(self) -> dict[str, Any]:
        return {"chat_id": self.chat.id, "messages": [{"role": "user", "content": self.question}]}

    def act(self) -> None:
        self.told(self._ask)

    def _ask(self) -> Answer:
        viewing = self.world.asked(self.me, "once", self.body())
        ended = viewing.status == 200 and "event: close" in viewing.sent
        broke_off = viewing.status in (0, 200) and not ended  # the client saw no end
        return Answer(503 if broke_off else viewing.status, {}, viewing.sent)

    def recover(self) -> None:
        self._adopt()
        super().recover()
        self._adopt()

    def _adopt(self) -> None:
        for task in accepted(self.world.tasks()):
            if task.chat_id not in self.world.chats:
                self.world.adopt(task.chat_id, self.question)

    def kept(self) -> Iterator[Violation]:
        real = [task for task in accepted(self.world.tasks()) if task.id not in self.earlier]
        if len(real) != 1:
            yield Violation(BROKEN, f"{len(real)} tasks of one key")
        if not self.succeeded:
            yield Violation(BROKEN, f"never answered: {[answer and answer.status for answer in self.answers]}")
        for task in real:
            thread = Message.query(task.thread, consistent_read=True)
            said = sum(message.content == self.question for message in thread)
            if said != 1:
                yield Violation(BROKEN, f"the question is stored {said} times")


class AskFurther(AskAndStream):
    name = "POST /tasks/stream in a chat that the process has just answered in"

    def prepare(self) -> None:
        super().prepare()
        first = {"role": "user", "content": "/sim tokens=4 delay=1"}
        viewing = self.world.asked(self.me, "before", {"chat_id": self.chat.id, "messages": [first]})
        assert "event: close" in viewing.sent
        self.earlier = frozenset({viewing.task_id})
        assert (self.me.id, self.chat.id) in conversations._remembered


class AskAfterChange(AskFurther):
    name = "POST /tasks/stream in such a chat that has changed since"

    def prepare(self) -> None:
        super().prepare()
        self.said = uuid4().hex
        body = {"messages": [{"role": "user", "content": self.said}]}
        answer = self.world.api("chats.append", "POST", f"/chats/{self.chat.id}/messages", json=body, user=self.me)
        assert answer.status == 200, answer.body
        self.world.acknowledged[self.chat.id].append(self.said)

    def kept(self) -> Iterator[Violation]:
        yield from super().kept()
        if any(self.said not in prompt for prompt in self.world.find_prompts(self.question)):
            yield Violation(BROKEN, "asked with messages that had changed")


class AskInNewChat(AskAndStream):
    name = "POST /tasks/stream with a new chat"

    def body(self) -> dict[str, Any]:
        chat = {"preset_id": self.chat.preset_id, "title": "Opened"}
        return {"chat": chat, "messages": [{"role": "user", "content": self.question}]}

    def kept(self) -> Iterator[Violation]:
        yield from super().kept()
        opened = [chat for chat in Chat.by_create_time.query(self.me.id) if chat.id != self.chat.id]
        if len(opened) != 1:
            yield Violation(BROKEN, f"{len(opened)} chats of one key")


class AskAgain(AskAndStream):
    name = "POST /tasks/stream for another answer"

    def prepare(self) -> None:
        super().prepare()
        self.old = self.world.accepted(self.me, self.chat, stream=False)["task_id"]
        self.world.rest()

    def body(self) -> dict[str, Any]:
        return {"regenerate": self.old}

    def kept(self) -> Iterator[Violation]:
        if not self.succeeded:
            yield Violation(BROKEN, "never answered")
        new = [t for t in self.world.tasks() if t.id != self.old and not (t.closed_by or "").startswith("fence#")]
        messages = list(Message.query(self.chat.thread, consistent_read=True))
        if len(new) != 1 or [message.role for message in messages] != ["user", "assistant"]:
            yield Violation(BROKEN, f"{len(new)} tasks, {len(messages)} messages after an answer was made again")


# --- the AI SDK's door


class AskByUi(AskAndStream):
    """A client sends its message again, as it is, until it knows the end of the answer."""

    name = "POST /ui/chat with a message"

    def prepare(self) -> None:
        super().prepare()
        self.sent = ui_body(self.chat.id, self.question)

    def body(self) -> dict[str, Any]:
        return self.sent

    def _ask(self) -> Answer:
        viewing = self.world.asked_ui(self.me, "once", self.body())
        broke_off = viewing.status in (0, 200) and not viewing.ended
        return Answer(503 if broke_off else viewing.status, {}, viewing.sent)


class OpenByUi(AskByUi):
    name = "POST /ui/chat with a new chat"

    def prepare(self) -> None:
        super().prepare()
        self.sent = ui_body(uuid4().hex[:16], self.question, preset_id=self.chat.preset_id)

    def kept(self) -> Iterator[Violation]:
        yield from super().kept()
        opened = [chat for chat in Chat.by_create_time.query(self.me.id) if chat.id != self.chat.id]
        if len(opened) != 1:
            yield Violation(BROKEN, f"{len(opened)} chats of one id")


class EditByUi(AskByUi):
    name = "POST /ui/chat with an edited message"

    def prepare(self) -> None:
        super().prepare()
        before = ui_body(self.chat.id, "/sim tokens=4 delay=1")
        viewing = self.world.asked_ui(self.me, "before", before)
        assert viewing.ended
        self.earlier = frozenset({viewing.start["task_id"]})
        message_id = before["messages"][0]["id"]
        self.sent = ui_body(self.chat.id, self.question, message_id, messageId=message_id)

    def kept(self) -> Iterator[Violation]:
        yield from super().kept()
        branches = Chat.get(self.chat.id, consistent_read=True).tree.ids
        if len(branches) != 2:
            yield Violation(BROKEN, f"{len(branches)} branches after one edit")


class RegenerateByUi(AskAgain, AskByUi):
    name = "POST /ui/chat for another answer"

    def body(self) -> dict[str, Any]:
        return {**self.sent, "id": self.chat.id, "trigger": "regenerate-message"}


# --- completions by API keys


class Complete(Scenario):
    """A client repeats the request as OpenAI's clients do, until it has seen the end."""

    name = "POST /v1/chat/completions"
    tries = 3
    more: ClassVar[dict[str, Any]] = {}
    limit = 100_000

    def prepare(self) -> None:
        self.key = make_key(self.me, credit_limit=self.limit)
        self.question = f"/sim tokens=8 delay=2 {uuid4().hex}"
        self.world.acknowledged[completions_of(self.me.id)].append(self.question)

    def act(self) -> None:
        self.told(self._ask)

    def _ask(self) -> Answer:
        attempt = len(self.answers) - 1
        if attempt:  # the client waits, and so the lease of a process that died is over
            self.world.clock.ahead += settings.LEASE_SECONDS + 1
        body = {"model": "qwen-plus", "messages": [{"role": "user", "content": self.question}], **self.more}
        viewing = self.world.completed(self.key.key, body, {"x-stainless-retry-count": str(attempt)})
        whole = viewing.sent.endswith("data: [DONE]\n\n" if self.more else "}") and '"error"' not in viewing.sent
        broke_off = viewing.status in (0, 200) and not whole  # the client saw no end, or an error in its place
        return Answer(503 if broke_off else viewing.status, {}, viewing.sent)

    def check(self) -> Iterator[Violation]:
        yield from self.kept()  # 502 is the answer to a retry whose first attempt has failed

    def kept(self) -> Iterator[Violation]:
        stored = accepted(self.world.tasks())
        finished = [task for task in stored if task.status == "finished"]
        if len(finished) > 1:
            yield Violation(BILLED_TWICE, f"{len(finished)} completions for one request and its retries")
        if self.succeeded and (not finished or finished[0].id not in self.succeeded[-1].body):
            yield Violation(BROKEN, "a client was told of a completion that is not stored")
        if not self.answers[-1]:
            yield Violation(BROKEN, "never answered")
        spent = sum(int(task.credits) for task in finished)
        if find_room(stored_keys.digest(self.key.key)) != self.limit - spent:
            yield Violation(STUCK, "room of the key that no completion holds or has spent")


class CompleteStreamed(Complete):
    name = "POST /v1/chat/completions, streamed"
    more: ClassVar[dict[str, Any]] = {"stream": True}


class SweepCompletion(Complete):
    name = "sweep of a completion whose process died"
    tries = 1

    def prepare(self) -> None:
        super().prepare()
        self.task = complete(stored_keys.find(self.key.key), 300)
        self.world.clock.ahead += settings.LEASE_SECONDS + 1

    def act(self) -> None:
        with suppress(Exception):  # an invocation that failed: the next minute's comes
            sweep()

    def kept(self) -> Iterator[Violation]:
        if Task.get(self.task.id, consistent_read=True).status != "failed":
            yield Violation(STUCK, "a completion that was not swept")
        if find_room(stored_keys.digest(self.key.key)) != self.limit:
            yield Violation(STUCK, "room of the key that no completion holds")


# --- branches, another model, the rest of an answer

LONG = "/sim tokens=12 delay=1"


class Talked(Scenario):
    """A chat with a question, its answer, and another question at n = 3."""

    parameters: ClassVar[dict[str, Any]] = {}

    def talk(self, directive: str = "/sim tokens=4 delay=1") -> None:
        self.chat = self.world.chat(self.me, directive, **self.parameters)
        self.old = self.world.accepted(self.me, self.chat, stream=False)["task_id"]
        self.world.rest()

    def ask_further(self) -> None:
        self.said = uuid4().hex
        body = {"messages": [{"role": "user", "content": self.said}]}
        answer = self.world.api("chats.append", "POST", f"/chats/{self.chat.id}/messages", json=body, user=self.me)
        assert answer.status == 200, answer.body
        self.world.acknowledged[self.chat.id].append(self.said)

    def stored(self) -> Chat:
        return Chat.get(self.chat.id, consistent_read=True)

    def shown(self) -> list[Message]:
        return self.world.shown(self.stored())

    def new(self) -> list[Task]:
        return [task for task in accepted(self.world.tasks()) if task.id != self.old]

    def branched(self, question: str) -> Iterator[Violation]:
        """There is one branch beside the main one. It is shown, and the other one is whole."""
        chat, shown = self.stored(), self.shown()
        new = self.new()
        if len(new) != 1 or len(chat.branches or ()) != 2 or chat.branch == "main":
            yield Violation(BROKEN, f"{len(new)} tasks and branches {chat.branches} of one key")
            return
        answers = [4] if new[0].text_length else []
        if [message.n for message in shown] != [1, 2, 3, *answers] or shown[2].content != question:
            yield Violation(BROKEN, f"the branch has {[(message.n, message.content) for message in shown]}")
        main = [message.content for message in Message.query(chat.thread, consistent_read=True)]
        if len(main) != 3 or main[2] != self.said:
            yield Violation(ANSWERS_LOST, f"the main branch has {main}")

    def continued(self) -> Iterator[Violation]:
        """There is one answer: the first part alone if the second failed, else both with the sum of their costs."""
        new, messages = self.new(), self.shown()
        if len(new) != 1 or [message.role for message in messages] != ["user", "assistant"]:
            yield Violation(BROKEN, f"{len(new)} tasks, {len(messages)} messages of a continued answer")
            return
        task, old, answer = new[0], Task.get(self.old, consistent_read=True), messages[1]
        said = stream_log.read_text(old.id).content
        due = (old.id, len(said), old.credits)
        if task.status != "failed" and task.text_length:
            due = (task.id, len(said) + task.text_length, old.credits + task.credits)
        if (answer.task_id, len(answer.content), answer.credits) != due or not answer.content.startswith(said):
            yield Violation(ANSWERS_LOST, f"{(answer.task_id, answer.content, answer.credits)}, not {due}")

    def answered_by(self, model: str) -> Iterator[Violation]:
        """There is one answer, of the other model if that has finished, and the chat's preset is as it was."""
        new, messages = self.new(), self.shown()
        if len(new) != 1 or [message.role for message in messages] != ["user", "assistant"]:
            yield Violation(BROKEN, f"{len(new)} tasks, {len(messages)} messages after an answer was made again")
            return
        due = (new[0].id, model) if new[0].status == "finished" else (self.old, "qwen-plus")
        if (messages[1].task_id, messages[1].model) != due or new[0].model != model:
            yield Violation(BROKEN, f"answered by {messages[1].model}, not {due}")
        if self.stored().preset_id != self.chat.preset_id:
            yield Violation(BROKEN, "the chat has another preset")


class Branching(Talked):
    """A question in the place of an earlier one."""

    def prepare(self) -> None:
        self.talk()
        self.ask_further()
        self.question = uuid4().hex
        self.world.acknowledged[self.chat.id].append(self.question)

    def body(self) -> dict[str, Any]:
        question = {"role": "user", "content": self.question}
        return {"chat_id": self.chat.id, "branch_at": 3, "messages": [question]}

    def kept(self) -> Iterator[Violation]:
        yield from super().kept()
        yield from self.branched(self.question)


class OtherModel(Talked):
    """An answer of another model."""

    def prepare(self) -> None:
        self.talk()

    def body(self) -> dict[str, Any]:
        return {"regenerate": self.old, "model": "qwen-max"}

    def kept(self) -> Iterator[Violation]:
        yield from super().kept()
        yield from self.answered_by("qwen-max")


class Rest(Talked):
    """The rest of an answer."""

    parameters: ClassVar[dict[str, Any]] = {"max_tokens": 5}

    def prepare(self) -> None:
        self.talk(LONG)

    def body(self) -> dict[str, Any]:
        return {"continues": self.old}

    def kept(self) -> Iterator[Violation]:
        yield from super().kept()
        yield from self.continued()


class AskOnce(Talked):
    """POST /tasks about a chat that has an answer, with a key, until it is told."""

    tries = 3

    def body(self) -> dict[str, Any]:
        raise NotImplementedError

    def act(self) -> None:
        headers = {"Idempotency-Key": "once"}
        body = {"stream": False, **self.body()}
        self.told(lambda: self.world.api("tasks.create", "POST", "/tasks", json=body, user=self.me, headers=headers))

    def kept(self) -> Iterator[Violation]:
        if not self.succeeded:
            yield Violation(BROKEN, "never told that it is accepted")
        if {answer.json["task_id"] for answer in self.succeeded} - {task.id for task in self.new()}:
            yield Violation(BROKEN, "accepted, and not there")


class BranchOff(Branching, AskOnce):
    name = "POST /tasks with branch_at"


class AnotherModel(OtherModel, AskOnce):
    name = "POST /tasks for an answer of another model"


class GoOn(Rest, AskOnce):
    name = "POST /tasks for the rest of an answer"


class AskOnceAndStream(Talked, AskAndStream):
    """POST /tasks/stream in the same way."""

    def kept(self) -> Iterator[Violation]:
        if not self.succeeded:
            yield Violation(BROKEN, f"never answered: {[answer and answer.status for answer in self.answers]}")


class BranchAndStream(Branching, AskOnceAndStream):
    name = "POST /tasks/stream with branch_at"


class AnotherModelStreamed(OtherModel, AskOnceAndStream):
    name = "POST /tasks/stream for an answer of another model"


class GoOnAndStream(Rest, AskOnceAndStream):
    name = "POST /tasks/stream for the rest of an answer"


class ChangeOne(Talked):
    """A change of a message or of the shown branch, by a client that takes the chat as it is."""

    tries = 3

    def prepare(self) -> None:
        self.talk()
        self.ask_further()
        self.world.accepted(self.me, self.chat, stream=False)
        self.world.rest()

    def call(self, function: str, method: str, path: str, **body: Any) -> None:
        path, headers = f"/chats/{self.chat.id}/{path}", {"If-Match": "*"}
        self.told(lambda: self.world.api(function, method, path, user=self.me, headers=headers, **body))


class EditOne(ChangeOne):
    name = "PUT /chats/{id}/messages/{n}"

    def prepare(self) -> None:
        super().prepare()
        self.world.acknowledged[self.chat.id].remove(self.said)
        self.other = uuid4().hex

    def act(self) -> None:
        self.call("chats.message_update", "PUT", "messages/3", json={"content": self.other})

    def kept(self) -> Iterator[Violation]:
        shown = self.shown()
        if not self.succeeded or [message.n for message in shown] != [1, 2, 3, 4] or shown[2].content != self.other:
            yield Violation(BROKEN, f"not edited: {[message.content for message in shown]}")


class RemoveFollowing(ChangeOne):
    name = "DELETE /chats/{id}/messages/{n} with all that follow"
    left: ClassVar[list[int]] = [1, 2]

    def prepare(self) -> None:
        super().prepare()
        self.world.acknowledged[self.chat.id].remove(self.said)
        self.world.rewritten |= {task.id for task in self.new()}

    def act(self) -> None:
        self.call("chats.message_delete", "DELETE", "messages/3?following=true")

    def kept(self) -> Iterator[Violation]:
        told = [answer.status for answer in self.answers if answer]
        if not {200, 404} & set(told) or [message.n for message in self.shown()] != self.left:
            yield Violation(BROKEN, f"told {told}, and shown {[message.n for message in self.shown()]}")


class SwitchBack(Branching, ChangeOne):
    name = "PUT /chats/{id}/branch"

    def prepare(self) -> None:
        super().prepare()
        body = self.body()
        body.pop("chat_id")
        self.world.accepted(self.me, self.chat, stream=False, **body)
        self.world.rest()
        self.branch = self.stored().branch

    def act(self) -> None:
        self.call("chats.branch", "PUT", "branch", json={"branch": "main"})

    def kept(self) -> Iterator[Violation]:
        chat, shown = self.stored(), [message.content for message in self.shown()]
        if not self.succeeded or chat.branch != "main" or shown[2:] != [self.said]:
            yield Violation(BROKEN, f"shown {chat.branch}: {shown}")
        branch = [message.n for message in Message.query(f"{chat.thread}#{self.branch}", consistent_read=True)]
        if branch != [3, 4]:
            yield Violation(ANSWERS_LOST, f"the other branch has {branch}")


class RemoveBranch(SwitchBack):
    name = "DELETE /chats/{id}/messages/{n} that ends a branch"

    def prepare(self) -> None:
        super().prepare()
        self.world.acknowledged[self.chat.id].remove(self.question)
        self.world.rewritten |= {task.id for task in self.new()}
        self.version = self.stored().version

    def act(self) -> None:
        path, headers = f"/chats/{self.chat.id}/messages/3?following=true", {"If-Match": f'"{self.version}"'}
        self.told(lambda: self.world.api("chats.message_delete", "DELETE", path, user=self.me, headers=headers))

    def kept(self) -> Iterator[Violation]:
        chat, told = self.stored(), [answer.status for answer in self.answers if answer]
        if not {200, 412} & set(told) or chat.branches or [message.n for message in self.shown()] != [1, 2, 3]:
            yield Violation(BROKEN, f"told {told}, and left {chat.branches}")


# --- the engine


class Unwatched(Scenario):
    """From the queue, with nobody there."""

    name = "answer with no viewer"
    question = "/sim tokens=8 delay=6"
    parameters: ClassVar[dict[str, Any]] = {}
    body: ClassVar[dict[str, Any]] = {"stream": False}

    def prepare(self) -> None:
        self.chat = self.world.chat(self.me, self.question, **self.parameters)
        accepted = self.world.accepted(self.me, self.chat, **self.body)
        self.task_id, self.url = accepted["task_id"], accepted["stream_url"]

    def act(self) -> None:
        for body in self.world.messages[:]:
            self.world.deliver(body)

    def ended(self) -> Task:
        return Task.get(self.task_id, consistent_read=True)


class Title(Unwatched):
    name = "title"
    body: ClassVar[dict[str, Any]] = {"type": "title_generation", "stream": False}

    def kept(self) -> Iterator[Violation]:
        title = Chat.get(self.chat.id, consistent_read=True).title
        if (title != "Test") != (self.ended().status == "finished"):
            yield Violation(BROKEN, f"a {self.ended().status} title task, and the title {title}")


class AnswerThenTitle(Unwatched):
    """In a chat with auto_title. The title comes as the system goes on by itself."""

    name = "answer of a chat that waits for a title"

    def prepare(self) -> None:
        self.chat = self.world.chat(self.me, self.question)
        Chat(self.chat.id).update([Chat.auto_title.set(True), Chat.title_source.set(Chat.MESSAGE)])
        accepted = self.world.accepted(self.me, self.chat, **self.body)
        self.task_id, self.url = accepted["task_id"], accepted["stream_url"]

    def titles(self) -> list[Task]:
        return [task for task in self.world.tasks() if task.type == Task.TITLE]

    def kept(self) -> Iterator[Violation]:
        titles, chat = self.titles(), Chat.get(self.chat.id, consistent_read=True)
        if len(titles) != (self.ended().status == "finished"):
            yield Violation(BROKEN, f"{len(titles)} titles of a {self.ended().status} answer")
        if [task.id for task in titles] != [chat.title_task] * len(titles):
            yield Violation(BROKEN, "a title's task that the chat does not know")
        ended = [task.status for task in titles]
        if (chat.title_source == Chat.MODEL) != (ended == ["finished"]):
            yield Violation(BROKEN, f"title tasks {ended}, and a title of {chat.title_source}")


class WatchedThenTitle(AnswerThenTitle):
    name = "answer with a viewer of a chat that waits for a title"
    body: ClassVar[dict[str, Any]] = {}

    def act(self) -> None:
        self.world.watched(self.task_id, self.url)


class WorkTitle(AnswerThenTitle):
    name = "job that has a title made"

    def prepare(self) -> None:
        super().prepare()
        super().act()
        self.world.messages.clear()

    def act(self) -> None:
        for body in self.world.jobs[:]:
            if self.world.work(body):
                self.world.jobs.remove(body)


class WishedTitle(WorkTitle):
    name = "title of a chat that waited for it"

    def prepare(self) -> None:
        super().prepare()
        super().act()

    def act(self) -> None:
        Unwatched.act(self)


class AnswerAgain(Unwatched):
    name = "answer made again"

    def prepare(self) -> None:
        super().prepare()
        self.world.rest()
        self.world.messages.clear()
        path = f"/tasks/{self.task_id}/regenerate"
        answer = self.world.api("tasks.regenerate", "POST", path, user=self.me)
        self.task_id = answer.json["task_id"]

    def kept(self) -> Iterator[Violation]:
        messages = list(Message.query(self.chat.thread, consistent_read=True))
        of_new = messages[-1].task_id == self.task_id
        if len(messages) != 2 or of_new != (self.ended().status == "finished"):
            yield Violation(BROKEN, "neither the old answer nor the new one")


class AnswerInBranch(BranchOff, Unwatched):
    name = "answer in a branch"

    def prepare(self) -> None:
        BranchOff.prepare(self)
        self.world.messages.clear()
        BranchOff.act(self)
        assert self.succeeded
        self.task_id = self.succeeded[0].json["task_id"]

    def act(self) -> None:
        Unwatched.act(self)

    def kept(self) -> Iterator[Violation]:
        yield from self.branched(self.question)


class RestOfAnswer(AnswerInBranch):
    name = "rest of an answer"
    parameters: ClassVar[dict[str, Any]] = {"max_tokens": 5}

    def prepare(self) -> None:
        self.talk(LONG)
        self.world.messages.clear()
        BranchOff.act(self)
        assert self.succeeded
        self.task_id = self.succeeded[0].json["task_id"]

    def body(self) -> dict[str, Any]:
        return {"continues": self.old}

    def kept(self) -> Iterator[Violation]:
        yield from self.continued()


class RestWatched(RestOfAnswer):
    name = "rest of an answer with a viewer"

    def body(self) -> dict[str, Any]:
        return {"continues": self.old, "stream": True}

    def act(self) -> None:
        self.world.watched(self.task_id, self.answers[0].json["stream_url"])  # type: ignore[union-attr]


class Refused(Unwatched):
    name = "answer cut off by the provider"
    question = "/sim tokens=8 delay=6 fail=drop_mid at=5"


class Empty(Unwatched):
    name = "answer without text"
    question = "/sim fail=empty"


class Throttled(Unwatched):
    name = "answer throttled by the provider at first"

    def prepare(self) -> None:
        self.question = "/sim tokens=4 delay=1 fail=throttle_twice"
        super().prepare()
        self.world.model_calls = 3


class Watched(Unwatched):
    """Beside its viewer, with the door's own calls."""

    name = "answer with a viewer"
    body: ClassVar[dict[str, Any]] = {}

    def act(self) -> None:
        self.world.watched(self.task_id, self.url)


class Thinking(Watched):
    name = "thinking answer with a viewer"
    question = "/sim tokens=8 think=6 delay=5 cut_emoji"
    parameters: ClassVar[dict[str, Any]] = {"enable_thinking": True}


class CameBack(Watched):
    name = "stream resumed from a position"

    def prepare(self) -> None:
        super().prepare()
        self.world.watched(self.task_id, self.url)

    def act(self) -> None:
        whole = self.world.viewings[0].stream.content
        viewing = self.world.watched(self.task_id, f"{self.url}&after=3")
        self.rest_of_it = viewing.stream
        self.world.viewings.remove(viewing)  # it saw a part: it is looked at here
        self.whole = whole

    def kept(self) -> Iterator[Violation]:
        if not self.whole[3:].startswith(self.rest_of_it.content):
            yield Violation(BROKEN, "the rest is not the rest")


class WaitedFor(Unwatched):
    """Through the HTTP API, which cannot stream."""

    name = "stream of a client that cannot be streamed to"
    tries = 3
    body: ClassVar[dict[str, Any]] = {}

    def act(self) -> None:
        self.told(lambda: self.world.waited(self.task_id, self.me))


class Stopped(Watched):
    """Two processes: the one that answers, and the one that stops it."""

    name = "answer stopped in the middle"
    question = "/sim tokens=60 delay=5"
    tries = 2

    def meanwhile(self) -> None:
        path = f"/tasks/{self.task_id}/stop"
        self.told(lambda: self.world.api("tasks.stop", "POST", path, user=self.me))

    def act(self) -> None:
        if self.world.viewings:  # the client's second try
            self.meanwhile()
            return
        viewing, thread = self.world.watching(self.task_id, self.url)
        try:
            while thread.is_alive() and not viewing.text_shown.wait(0.02):
                pass
            self.meanwhile()
        finally:
            thread.join()


class DeletedUnder(Stopped):
    name = "chat deleted under its answer"
    tries = 3

    def meanwhile(self) -> None:
        self.told(lambda: self.world.api("chats.delete", "DELETE", f"/chats/{self.chat.id}", user=self.me))
        if self.answers[-1] and self.answers[-1].status in (200, 404):
            self.world.gone.add(self.chat.id)


# --- stopping, sweeping


class StopPending(Unwatched):
    name = "stop of a task that nobody has begun"
    tries = 2

    def act(self) -> None:
        path = f"/tasks/{self.task_id}/stop"
        self.told(lambda: self.world.api("tasks.stop", "POST", path, user=self.me))

    def kept(self) -> Iterator[Violation]:
        if any(answer.json["status"] == "stopped" for answer in self.succeeded) and self.ended().status != "stopped":
            yield Violation(BROKEN, f"stopped, and {self.ended().status}")


class SweepInterrupted(Unwatched):
    name = "sweep of an interrupted answer"

    def prepare(self) -> None:
        super().prepare()
        assert leases.claim(self.task_id)
        stream_log.write(self.task_id, stream_log.Slice(0, "content", "half an ans"))
        self.world.clock.ahead = settings.LEASE_SECONDS + 1

    def act(self) -> None:
        with suppress(Exception):  # an invocation that failed: the next minute's comes
            sweep()

    def kept(self) -> Iterator[Violation]:
        if (self.ended().error_code, self.ended().text_length) != ("interrupted", 11):
            yield Violation(STUCK, f"{self.ended().status} {self.ended().error_code}")


class SweepUnsent(SweepInterrupted):
    name = "sweep of a task whose message never came"
    ahead = leases.RESEND_SECONDS + 1.0

    def prepare(self) -> None:
        Unwatched.prepare(self)
        self.world.messages.clear()
        self.world.clock.ahead = self.ahead

    def kept(self) -> Iterator[Violation]:
        if self.ended().status != "finished":
            yield Violation(ANSWERS_LOST, self.ended().error_code)


class SweepTimeout(SweepUnsent):
    name = "sweep of a task that waited too long"
    ahead = leases.QUEUE_SECONDS + 1.0

    def kept(self) -> Iterator[Violation]:
        if self.ended().error_code != "queue_timeout":
            yield Violation(STUCK, f"{self.ended().status} {self.ended().error_code}")


# --- credits


class Redeem(Scenario):
    name = "redeem with a key"
    tries = 3
    headers: ClassVar[dict[str, str]] = {"Idempotency-Key": "redeem"}

    def prepare(self) -> None:
        self.code = self.world.code(max_uses=5)

    def act(self) -> None:
        body = {"redeem_code": self.code}
        self.told(
            lambda: self.world.api(
                "users.redeem", "POST", "/users/me/credits", json=body, user=self.me, headers=self.headers
            )
        )

    def kept(self) -> Iterator[Violation]:
        if self.me.user.credits != 1_000_100:
            yield Violation(BROKEN, f"redeemed, and {self.me.user.credits} credits")
        for answer in self.succeeded:
            if answer.json["credits_left"] != 1_000_100:
                yield Violation(BROKEN, f"said {answer.json}")
        if self.headers and not self.succeeded:
            yield Violation(BROKEN, "never told that it is redeemed")


class RedeemWithoutKey(Redeem):
    name = "redeem without a key"
    headers: ClassVar[dict[str, str]] = {}


class Grant(Scenario):
    name = "grant with a key"
    tries = 3
    amount = 50

    def prepare(self) -> None:
        self.admin = self.world.person()
        User(self.admin.id).update([User.permission.set(2)])
        self.world.granted[self.me.id] += self.amount

    def act(self) -> None:
        body = {"amount": self.amount, "description": "because"}
        path, headers = f"/users/{self.me.id}/credits", {"Idempotency-Key": "grant"}
        self.told(lambda: self.world.api("users.grant", "POST", path, json=body, user=self.admin, headers=headers))

    def kept(self) -> Iterator[Violation]:
        for answer in self.succeeded:
            if answer.json["credits_left"] != 1_000_000 + self.amount:
                yield Violation(BROKEN, f"said {answer.json}")
        if not self.succeeded:
            yield Violation(BROKEN, "never told that it is granted")


class Deduct(Grant):
    name = "deduction with a key"
    amount = -50


class SignUp(Scenario):
    name = "sign-up"
    tries = 3

    def prepare(self) -> None:
        self.username = f"u{uuid4().hex[:12]}"

    def act(self) -> None:
        body = {"username": self.username, "password": "secret-123"}
        self.told(lambda: self.world.api("users.create", "POST", "/users", json=body))

    def recover(self) -> None:
        super().recover()
        with suppress(Identity.DoesNotExist):
            identity = Identity.get(f"password#{self.username}", consistent_read=True)
            self.world.people.append(Person(identity.user_id, self.username, "", "", ""))
            self.world.granted[identity.user_id] = settings.SIGNUP_CREDITS

    def kept(self) -> Iterator[Violation]:
        if len(self.world.people) != 2:
            yield Violation(BROKEN, "nobody signed up in three tries")
        elif any(answer.json["id"] != self.world.people[1].id for answer in self.succeeded):
            yield Violation(BROKEN, "signed up as somebody else")


class MakeCode(Scenario):
    name = "POST /codes with a key"
    tries = 3

    def prepare(self) -> None:
        User(self.me.id).update([User.permission.set(2)])

    def act(self) -> None:
        headers = {"Idempotency-Key": "code"}
        self.told(
            lambda: self.world.api("codes.create", "POST", "/codes", json={"value": 5}, user=self.me, headers=headers)
        )

    def kept(self) -> Iterator[Violation]:
        names = {answer.json["redeem_code"] for answer in self.succeeded}
        if len(names) != 1:
            yield Violation(BROKEN, f"{len(names)} codes of one key")
        for name in names:
            with suppress(Code.DoesNotExist):
                Code.get(name, consistent_read=True)
                continue
            yield Violation(BROKEN, "a code that is not there")


class MakeBatch(MakeCode):
    name = "POST /codes of a batch"
    count = 120

    def act(self) -> None:
        body, headers = {"value": 5, "count": self.count}, {"Idempotency-Key": "batch"}
        self.told(lambda: self.world.api("codes.create", "POST", "/codes", json=body, user=self.me, headers=headers))

    def kept(self) -> Iterator[Violation]:
        made = {answer.body for answer in self.succeeded}
        if len(made) != 1:
            yield Violation(BROKEN, f"{len(made)} batches of one key")
            return
        names = [code["redeem_code"] for code in self.succeeded[0].json["codes"]]
        found = list(Code.batch_get(names, consistent_read=True))
        if len(found) != self.count or any(code.revoked for code in found):
            yield Violation(BROKEN, f"{len(found)} codes of {self.count}")


class RevokeBatch(MakeBatch):
    name = "DELETE /codes of a batch"
    count = 4

    def prepare(self) -> None:
        super().prepare()
        super().act()
        self.made = self.succeeded[0].json
        self.answers.clear()

    def act(self) -> None:
        path = f"/codes?batch={self.made['batch']}"
        self.told(lambda: self.world.api("codes.delete_batch", "DELETE", path, user=self.me))

    def kept(self) -> Iterator[Violation]:
        codes = Code.batch_get([code["redeem_code"] for code in self.made["codes"]], consistent_read=True)
        if not self.succeeded or not all(code.revoked for code in codes):
            yield Violation(BROKEN, "codes of a revoked batch are good")


class Look(Scenario):
    name = "GET /users/me with the signing secret read anew"
    tries = 2

    def prepare(self) -> None:
        aws._secrets.clear()

    def act(self) -> None:
        self.told(lambda: self.world.api("users.me", "GET", "/users/me", user=self.me))

    def kept(self) -> Iterator[Violation]:
        if not self.succeeded:
            yield Violation(BROKEN, "not even the second time")


# --- chats


class MakeChat(Scenario):
    name = "POST /chats with messages"

    def prepare(self) -> None:
        self.preset_id = self.world.chat(self.me).preset_id

    def act(self) -> None:
        body = {"preset_id": self.preset_id, "title": "New", "messages": [{"role": "user", "content": "a"}] * 3}
        self.told(lambda: self.world.api("chats.create", "POST", "/chats", json=body, user=self.me))

    def recover(self) -> None:
        super().recover()
        for answer in self.succeeded:
            self.world.chats[answer.json["id"]] = Chat.get(answer.json["id"], consistent_read=True)


class Append(Scenario):
    name = "append messages"

    def prepare(self) -> None:
        self.chat = self.world.chat(self.me)
        self.said = [uuid4().hex, uuid4().hex]

    def act(self) -> None:
        body = {"messages": [{"role": "user", "content": said} for said in self.said]}
        path = f"/chats/{self.chat.id}/messages"
        self.told(lambda: self.world.api("chats.append", "POST", path, json=body, user=self.me))
        if self.succeeded:
            self.world.acknowledged[self.chat.id] += self.said

    def kept(self) -> Iterator[Violation]:
        contents = [message.content for message in Message.query(self.chat.thread, consistent_read=True)]
        if [contents.count(said) for said in self.said] not in ([0, 0], [1, 1]):
            yield Violation(BROKEN, "a part of what was appended, or twice")


class Change(Append):
    name = "change a chat's title"
    tries = 2

    def act(self) -> None:
        path = f"/chats/{self.chat.id}"
        self.told(lambda: self.world.api("chats.update", "PUT", path, json={"title": "Other"}, user=self.me))

    def kept(self) -> Iterator[Violation]:
        if Chat.get(self.chat.id, consistent_read=True).title != "Other":
            yield Violation(BROKEN, "the title is as it was")


class Replace(Append):
    name = "replace a chat's messages"
    tries = 3

    def prepare(self) -> None:
        super().prepare()
        self.said = [uuid4().hex for _ in range(30)]

    def act(self) -> None:
        body = {"messages": [{"role": "user", "content": said} for said in self.said]}
        path, headers = f"/chats/{self.chat.id}", {"If-Match": "*"}
        self.told(lambda: self.world.api("chats.update", "PUT", path, json=body, user=self.me, headers=headers))
        if self.succeeded:
            self.world.acknowledged[self.chat.id] = self.said

    def kept(self) -> Iterator[Violation]:
        if not self.succeeded:
            yield Violation(BROKEN, "not replaced in three tries")


class Copy(Scenario):
    name = "copy a chat"
    tries = 3

    def prepare(self) -> None:
        self.chat = self.world.chat(self.me)

    def act(self) -> None:
        self.told(lambda: self.world.api("chats.copy", "POST", f"/chats/{self.chat.id}/copy", user=self.me))

    def recover(self) -> None:
        super().recover()
        for answer in self.succeeded:
            made = Chat.get(answer.json["id"], consistent_read=True)
            self.world.chats[made.id] = made
            self.world.acknowledged[made.id] += self.world.acknowledged[self.chat.id]

    def kept(self) -> Iterator[Violation]:
        if not self.succeeded:
            yield Violation(BROKEN, "not copied in three tries")
        for thread in self.world._threads:
            said = [message.content for message in Message.query(thread, consistent_read=True)]
            if said and self.world.stored_chat(thread.split("#")[0]) is None:
                yield Violation(STUCK, "a thread of no chat")
            if said and said != self.world.acknowledged[self.chat.id]:
                yield Violation(BROKEN, "a part of a chat")


class DeleteChat(Scenario):
    name = "delete a chat that waits for an answer"
    tries = 3

    def prepare(self) -> None:
        self.chat = self.world.chat(self.me)
        self.world.accepted(self.me, self.chat)
        self.world.messages.clear()

    def act(self) -> None:
        self.told(lambda: self.world.api("chats.delete", "DELETE", f"/chats/{self.chat.id}", user=self.me))
        if self.answers[-1] and self.answers[-1].status in (200, 404):
            self.world.gone.add(self.chat.id)

    def kept(self) -> Iterator[Violation]:
        if self.chat.id not in self.world.gone:
            yield Violation(BROKEN, "not deleted in three tries")


class DeleteAll(DeleteChat):
    name = "delete all chats, of which one waits for an answer"

    def act(self) -> None:
        self.told(lambda: self.world.api("chats.delete_all", "DELETE", "/chats?confirm=all", user=self.me))
        if self.succeeded:
            self.world.gone.add(self.chat.id)


class ReadChanges(Scenario):
    name = "GET /changes"
    tries = 3

    def prepare(self) -> None:
        self.chats = [self.world.chat(self.me) for _ in range(3)]
        self.cursor = self.world.cursors[self.me.id]
        for chat in self.chats[:2]:
            body = {"messages": [{"role": "user", "content": (said := uuid4().hex)}]}
            path = f"/chats/{chat.id}/messages"
            self.world.api("chats.append", "POST", path, json=body, user=self.me)
            self.world.acknowledged[chat.id].append(said)
        gone = self.chats[1].id
        self.world.api("chats.delete", "DELETE", f"/chats/{gone}", user=self.me)
        self.world.gone.add(gone)

    def act(self) -> None:
        self.told(lambda: self.world.api("changes.list", "GET", f"/changes?since={self.cursor}&limit=1", user=self.me))

    def kept(self) -> Iterator[Violation]:
        if not self.succeeded:
            yield Violation(BROKEN, "not told in three tries")
        for page in (answer.json for answer in self.succeeded):
            told = {change["chat_id"] for change in page["changes"]}
            told |= self.world.follow(self.me, page["next"])[0]
            if told != {chat.id for chat in self.chats[:2]}:
                yield Violation(BROKEN, f"told {len(told)} of two changes")


class SweepJob(Replace):
    name = "sweep that hands a job over"

    def prepare(self) -> None:
        super().prepare()
        super().act()
        self.world.clock.ahead = 21 * 60

    def act(self) -> None:
        with suppress(Exception):  # an invocation that failed: the next minute's comes
            sweep()


class WorkReplaced(SweepJob):
    name = "job that removes a replaced thread"

    def prepare(self) -> None:
        super().prepare()
        sweep()

    def act(self) -> None:
        for body in self.world.jobs[:]:
            if self.world.work(body):
                self.world.jobs.remove(body)


class WorkDeleted(WorkReplaced):
    name = "job that removes a deleted chat and stops its task"

    def prepare(self) -> None:
        DeleteChat.prepare(self)  # type: ignore[arg-type]
        Chat(self.chat.id).update([Chat.active_task.remove()])
        task = self.world.tasks()[0].id
        self.told(lambda: self.world.api("chats.delete", "DELETE", f"/chats/{self.chat.id}", user=self.me))
        Chat(self.chat.id).update([Chat.active_task.set(task)])  # as if the deletion had not got as far as to stop it
        self.world.gone.add(self.chat.id)
        sweep()

    def kept(self) -> Iterator[Violation]:
        yield from ()


class WorkAll(WorkReplaced):
    name = "job that deletes all chats, of which one waits for an answer"

    def prepare(self) -> None:
        DeleteChat.prepare(self)  # type: ignore[arg-type]
        jobs.create("all_chats", 0, user_id=self.me.id, before=clock.timestamp())
        self.world.gone.add(self.chat.id)
        sweep()

    def kept(self) -> Iterator[Violation]:
        yield from ()


# --- presets


class MakePreset(Scenario):
    name = "POST /presets"

    def act(self) -> None:
        self.told(lambda: self.world.api("presets.create", "POST", "/presets", json=PRESET, user=self.me))

    def heads(self) -> list[Preset]:
        return list(Preset.by_owner.query(self.me.id))

    def kept(self) -> Iterator[Violation]:
        heads = self.heads()
        if len(heads) != self.me.user.preset_count:
            yield Violation(BROKEN, f"preset_count {self.me.user.preset_count} of {len(heads)}")
        if len(heads) < len(self.succeeded) or len(heads) > 1:
            yield Violation(BROKEN, f"{len(heads)} presets")
        for head in heads:
            versions = list(Preset.query(head.id, Preset.version > 0, consistent_read=True))
            if head.number != len(versions) or versions[-1].title != head.title:
                yield Violation(BROKEN, "a head without its version")


class ChangePreset(MakePreset):
    name = "PUT /presets/{id}"
    tries = 2

    def prepare(self) -> None:
        super().act()
        assert self.succeeded
        self.preset_id = self.succeeded[0].json["id"]
        self.answers.clear()

    def act(self) -> None:
        path, body = f"/presets/{self.preset_id}", {"title": "Two"}
        self.told(lambda: self.world.api("presets.update", "PUT", path, json=body, user=self.me))

    def kept(self) -> Iterator[Violation]:
        self.answers = self.succeeded[:1] or self.answers
        yield from super().kept()
        if self.heads()[0].title != "Two":
            yield Violation(BROKEN, "the preset is as it was")


class DeletePreset(ChangePreset):
    name = "DELETE /presets/{id}"

    def act(self) -> None:
        self.told(lambda: self.world.api("presets.delete", "DELETE", f"/presets/{self.preset_id}", user=self.me))

    def kept(self) -> Iterator[Violation]:
        if self.heads() or self.me.user.preset_count:
            yield Violation(BROKEN, f"{len(self.heads())} presets, and preset_count {self.me.user.preset_count}")
        if not list(Preset.query(self.preset_id, consistent_read=True)):
            yield Violation(BROKEN, "the versions went too")


class Like(MakePreset):
    name = "like a preset"
    tries = 3
    expected: ClassVar[int] = 1

    def prepare(self) -> None:
        super().act()
        self.preset_id = self.answers.pop().json["id"]  # type: ignore[union-attr]

    def act(self) -> None:
        path = f"/users/me/likes/preset/{self.preset_id}"
        self.told(lambda: self.world.api("users.like_preset", "POST", path, user=self.me))

    def kept(self) -> Iterator[Violation]:
        count = Preset.get(self.preset_id, Preset.HEAD, consistent_read=True).like_count
        records = len(likes.list_all(self.me.user).preset_ids)
        if (count, records) != (self.expected, self.expected):
            yield Violation(BROKEN, f"like_count {count} of {records}")


class Unlike(Like):
    name = "take the like of a preset back"
    expected = 0

    def prepare(self) -> None:
        super().prepare()
        super().act()
        self.answers.clear()

    def act(self) -> None:
        path = f"/users/me/likes/preset/{self.preset_id}"
        self.told(lambda: self.world.api("users.unlike_preset", "DELETE", path, user=self.me))


# --- users


class Rename(Scenario):
    name = "PUT /users/{id}"
    tries = 3

    def prepare(self) -> None:
        self.new = f"n{uuid4().hex[:12]}"

    def act(self) -> None:
        path, body = f"/users/{self.me.id}", {"username": self.new}
        self.told(lambda: self.world.api("users.update", "PUT", path, json=body, user=self.me))

    def kept(self) -> Iterator[Violation]:
        owners = [
            [identity.user_id for identity in Identity.query(f"password#{name}", consistent_read=True)]
            for name in (self.me.username, self.new)
        ]
        if owners != [[], [self.me.id]] or self.me.user.username != self.new or not self.succeeded:
            yield Violation(BROKEN, f"{self.me.user.username} has identities {owners}")


class SetPassword(Scenario):
    name = "PUT /users/{id}/password"
    tries = 3

    def prepare(self) -> None:
        User(self.me.id).update([User.permission.set(2)])
        self.other = self.world.person()

    def act(self) -> None:
        path, body = f"/users/{self.other.id}/password", {"new_password": "battery staple"}
        self.told(lambda: self.world.api("users.set_password", "PUT", path, json=body, user=self.me))

    def kept(self) -> Iterator[Violation]:
        version = self.other.user.token_version
        changed = Identity.get(f"password#{self.other.username}").password_hash != "none"
        if not (changed and self.succeeded and 1 <= version <= len(self.answers)):
            yield Violation(BROKEN, f"changed: {changed}, token_version: {version}")


class ChangePassword(Scenario):
    name = "PUT /users/me/password"
    tries = 3

    def prepare(self) -> None:
        Identity(f"password#{self.me.username}").update([Identity.password_hash.remove()])

    def act(self) -> None:
        path, body = "/users/me/password", {"new_password": "battery staple"}
        self.told(lambda: self.world.api("users.change_password", "PUT", path, json=body, user=self.me))

    def kept(self) -> Iterator[Violation]:
        version = self.me.user.token_version
        if version != 1 or Identity.get(f"password#{self.me.username}").password_hash is None:
            yield Violation(BROKEN, f"not changed once: token_version {version}")


class MakeKey(Scenario):
    name = "POST /users/me/keys"
    tries = 3

    def act(self) -> None:
        body = {"name": "Laptop", "credit_limit": 100}
        self.told(lambda: self.world.api("users.create_key", "POST", "/users/me/keys", json=body, user=self.me))

    def kept(self) -> Iterator[Violation]:
        listed = {key.id for key in api_keys.list_all(self.me.user, self.me.id)}
        if not {answer.json["id"] for answer in self.succeeded} <= listed:
            yield Violation(BROKEN, "a key that was made and is not there")
        if len(listed) > len(self.answers) or not self.succeeded:
            yield Violation(BROKEN, f"{len(listed)} keys of {len(self.answers)} requests")


class ChangeKey(MakeKey):
    name = "PUT /users/me/keys/{key_id}"
    left: ClassVar[list[tuple[str, int | None]]] = [("Phone", 500)]

    def prepare(self) -> None:
        super().act()
        self.key_id = self.succeeded[0].json["id"]
        self.answers.clear()

    def act(self) -> None:
        path, body = f"/users/me/keys/{self.key_id}", {"name": "Phone", "credit_limit": 500}
        self.told(lambda: self.world.api("users.update_key", "PUT", path, json=body, user=self.me))

    def kept(self) -> Iterator[Violation]:
        listed = [(key.name, key.credit_limit) for key in api_keys.list_all(self.me.user, self.me.id)]
        if listed != self.left or not self.answers[-1]:
            yield Violation(BROKEN, f"the keys are {listed}")


class RevokeKey(ChangeKey):
    name = "DELETE /users/{id}/keys/{key_id}"
    left: ClassVar[list[tuple[str, int | None]]] = []

    def act(self) -> None:
        path = f"/users/me/keys/{self.key_id}"
        self.told(lambda: self.world.api("users.delete_key", "DELETE", path, user=self.me))


class DeleteUser(Scenario):
    name = "DELETE /users/{id}"
    tries = 3

    def prepare(self) -> None:
        """An administrator, who leaves another one, a question, a preset, a like, and a code that they used."""
        for person in (self.me, self.world.person()):
            User(person.id).update([User.permission.set(2)])
            Record("administrators", person.id).save()
        other = self.world.chat(self.world.people[-1])
        Preset(other.preset_id, 0).update([Preset.visibility.set("public")])
        self.liked = other.preset_id
        likes.like(self.me.user, "preset", self.liked)
        self.code = self.world.code(100)
        topups.redeem(self.me.user, self.code, IdempotentRequest(self.me.id, "redeem", None, ""))
        make_key(self.me)
        self.world.accepted(self.me, self.world.chat(self.me))
        self.world.messages.clear()

    def act(self) -> None:
        self.told(lambda: self.world.api("users.delete", "DELETE", f"/users/{self.me.id}", user=self.me))
        if self.answers[-1] and self.answers[-1].status in (200, 401):
            self.world.deleted(self.me)

    def kept(self) -> Iterator[Violation]:
        if self.me.id not in self.world.ended:
            yield Violation(BROKEN, "not deleted in three tries")
        if Preset.get(self.liked, 0, consistent_read=True).like_count:
            yield Violation(BROKEN, "a like of nobody's")
        if not list(Record.query(f"redemption#{self.code}", consistent_read=True)):
            yield Violation(BROKEN, "a code that was used and has no redemption")


class WorkUser(DeleteUser):
    name = "job that removes what is a deleted user's"

    def prepare(self) -> None:
        super().prepare()
        super().act()
        self.world.clock.ahead = 61
        sweep()

    def act(self) -> None:
        for body in self.world.jobs[:]:
            if self.world.work(body):
                self.world.jobs.remove(body)


class WorkUserLast(WorkUser):
    name = "job that removes a deleted user"

    def prepare(self) -> None:
        super().prepare()
        super().act()
        self.world.clock.ahead = 130
        sweep()
