"""The rules as a state machine: hypothesis looks for an order of events after which the tables say other than this model.

Events are those of clients, queues, executors, sweeps and jobs, in any order, with what they had read before: an executor goes on
after it has lost its task, a sweep and a stop act on a task as it was when they read it, a message is delivered again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from unittest import mock

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aideer.accounts import api_keys, deletion
from aideer.billing import credits, key_room, pricing, redeem_codes, topups, uncovered
from aideer.billing.credits import Closer, Text
from aideer.chats import chats, edits
from aideer.core import characters, clock, settings
from aideer.core.errors import AideerError, Busy
from aideer.core.usage import Usage
from aideer.data import jobs, lookup
from aideer.data.base import new_id
from aideer.data.branches import MAIN
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Code, CreditEntry, Message, Record, Task, User
from aideer.data.transactions import Refused
from aideer.prompts import prompts
from aideer.schemas.api_keys import ApiKeyChange
from aideer.schemas.chats import ChatChange, MessageChange, NewMessages, PlacedMessage
from aideer.schemas.credits import NewGrant, NewRedemption
from aideer.schemas.questions import NewQuestion, NewTask
from aideer.security import api_keys as stored_keys
from aideer.security.api_keys import ApiKey
from aideer.security.auth import Bearer
from aideer.tasks import admission, chat_deletion, control, conversations, leases, results, stream_log, sweeper
from aideer.tasks.admission import Accepted
from jobs.run import WORKERS
from tests.api_keys import complete, find_room, make_key
from tests.chaos.harness import World
from tests.support import Person

OPEN = ("pending", "running")
TITLE, COMPLETION = "title_generation", "api"
LEFT_OUT = ("interrupted", "content_filter")
"""How answers end that later prompts leave out."""
CUT_OFF = ("length", "interrupted")
"""How answers end that can be continued."""


class Shown:
    """hypothesis prints these as they print themselves, and not field by field."""

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(eq=False)
class Someone(Shown):
    """A user as the model has them."""

    person: Person
    ledger: int
    redeemed: dict[str, str | None] = field(default_factory=dict)
    """Codes, each with the key under which it was."""
    granted: dict[int, int] = field(default_factory=dict)
    """Amounts that were granted under a key, with what was left then."""
    deleted_at: float | None = None
    uncovered: int = 0
    """What the provider bills for their tasks and nobody pays."""

    @property
    def caller(self) -> Bearer:
        """Who holds their first access token, for as long as it is good."""
        return Bearer({"sub": self.person.id, "ver": 0})

    def __repr__(self) -> str:
        return f"<user of {self.ledger}{' deleted' if self.deleted_at else ''}>"


class Said(NamedTuple):
    """Of a message: who said it, whether a prompt shows it, whose answer it is, its branch, and whether it was cut off."""

    role: str
    visible: bool = True
    task_id: str | None = None
    branch: str = MAIN
    cut_off: bool = False


Path = dict[int, Said]


@dataclass(eq=False)
class Talk(Shown):
    """A chat as the model has it: the messages that it shows, and for each other branch what that would show."""

    owner: Someone
    chat: Chat
    messages: Path
    next_n: int
    branch: str = MAIN
    unshown: dict[str, tuple[Path, int]] = field(default_factory=dict)
    """For each other branch its whole path, and the n of its next message."""
    generation: int = 0
    """How often all messages were replaced."""
    deleted: bool = False
    active: "Work | None" = None
    title: str = "Test"
    source: str = Chat.MESSAGE
    wishes: bool = False
    """For a title that the model makes after the next answer."""
    titled: "Work | None" = None
    """The title's task that came of it."""
    jobs: int = 0
    """Answers after which nobody has looked yet whether a title is to be made."""

    @property
    def awaits_title(self) -> bool:
        return self.wishes and not self.titled and self.source in Chat.PROVISIONAL

    def asks(self, end: int) -> bool:
        shown = [said.role for n, said in sorted(self.messages.items()) if n < end and said.visible]
        return bool(shown) and shown[-1] == "user"

    @property
    def paths(self) -> list[Path]:
        return [self.messages, *(path for path, _ in self.unshown.values())]

    def find_next(self, n: int) -> set[int | tuple[int, Said]]:
        """The messages behind the message `n`, in all branches."""
        found: set[int | tuple[int, Said]] = set()
        for path in self.paths:
            if path.get(n) == self.messages[n]:
                found |= set(sorted((other, said) for other, said in path.items() if other > n)[:1])
        return found

    def put(self, n: int, new: Said | None) -> None:
        """Change a message of the shown path, or remove it, in all branches that have it."""
        old = self.messages[n]
        for path in self.paths:
            if path.get(n) == old:
                if new:
                    path[n] = new
                else:
                    del path[n]

    def show(self, branch: str) -> None:
        if branch != self.branch:
            self.unshown[self.branch] = self.messages, self.next_n
            self.messages, self.next_n = self.unshown.pop(branch)
            self.branch = branch

    def __repr__(self) -> str:
        return f"<chat of {len(self.messages)}{' deleted' if self.deleted else ''}>"


@dataclass(eq=False)
class Work(Shown):
    """A task as the model has it."""

    id: str
    talk: Talk
    type: str
    hold: int
    answer_n: int | None
    replaces: int | None
    title_before: str
    accepted_at: float
    status: str = "pending"
    executor: str | None = None
    lease: float = 0.0
    credits: int = 0
    key: str | None = None
    deleted: bool = False
    """By its user, after its end."""
    branch: str = MAIN
    generation: int = 0
    entitles: bool = False
    unasked: bool = False
    """A title that came of a wish."""
    by: "Key | None" = None
    """The API key of a completion."""

    def __repr__(self) -> str:
        return f"<{self.status} {self.type}{' deleted' if self.deleted else ''}>"


@dataclass(eq=False)
class Key(Shown):
    """An API key as the model has it, and as callers have read it at some time."""

    owner: Someone
    id: str
    hash: str
    limit: int | None
    read: ApiKey
    version: int = 1
    paused: bool = False
    revoked: bool = False
    spent: int = 0

    def __repr__(self) -> str:
        return f"<key of {self.limit}{' revoked' if self.revoked else ''}>"


@dataclass(eq=False)
class Executor(Shown):
    """One that has claimed a task, whatever has become of the task since."""

    work: Work
    task: Task
    accepted: Accepted | None = None
    """What its own process accepted. Otherwise it has claimed the task."""
    said: str = ""

    def __repr__(self) -> str:
        return f"<executor of {self.work!r}>"


def one_of(name: str) -> st.SearchStrategy[Any]:
    """One of the newer ones of those that there are by now."""
    return st.runner().flatmap(lambda rules: st.sampled_from(list(getattr(rules, name))[-6:]))


def some(name: str) -> Callable[[Any], bool]:
    """Whether there are any by now."""
    return lambda rules: bool(getattr(rules, name))


PEOPLE, TALKS, WORKS, CODES = one_of("people"), one_of("talks"), one_of("works"), one_of("codes")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9)
EXECUTORS, READINGS = one_of("executors"), one_of("readings")
API_KEYS = one_of("api_keys")
KEYS = st.sampled_from([None, "a"])
LOST, NEVER, LATE = "answer lost", "never happens", "comes too late"
WAYS = st.sampled_from(["stream", "stream", "queue", LOST, NEVER, LATE])
"""POST /tasks/stream or POST /tasks. Or POST /tasks/stream, and what becomes of its transaction."""
QUESTIONS = {"message": ["user"], "messages": ["assistant", "user"], "stored": [], "statement": ["assistant"]}
"""The roles of the messages that a question brings."""


@contextmanager
def doubtful(way: str) -> Iterator[None]:
    """Let DynamoDB give no final answer to the transaction of an admission."""
    late: list[tuple[Any, ...]] = []
    hold = credits.hold

    def lose(*arguments: Any) -> None:
        if way == LOST:
            hold(*arguments)
        late.append(arguments)
        raise Busy

    if way not in (LOST, NEVER, LATE):
        yield
        return
    with mock.patch.object(credits, "hold", lose):
        yield
    for arguments in late if way == LATE else []:
        with pytest.raises(Refused, match="task"):
            hold(*arguments)


class Rules(RuleBasedStateMachine):
    """What may happen."""

    make_world: Callable[[], World]
    """Set by whoever runs it."""
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).make_world()
        self.people = [Someone(self.world.person(balance), balance) for balance in (1_000, 60)]
        self.talks: list[Talk] = []
        self.works: list[Work] = []
        self.asked: dict[str, Work] = {}
        """By the keys of questions."""
        self.executors: list[Executor] = []
        self.readings: list[tuple[Work, Task]] = []
        """Tasks as somebody has read them at some time."""
        self.api_keys: list[Key] = []
        self.codes: dict[str, tuple[int, int]] = {}
        self.uses: dict[str, int] = {}
        self.revoked: set[str] = set()
        admin = self.world.person(0)
        User(admin.id).update([User.permission.set(2)])
        self.admin = admin.user
        for owner in (*self.people, self.people[0]):
            self._open(owner)
        for max_uses in (1, 2):
            code = self.world.code(100, max_uses)
            self.codes[code], self.uses[code] = (100, max_uses), 0

    def _open(self, owner: Someone) -> None:
        chat = self.world.chat(owner.person)
        Chat(chat.id).update([Chat.title_source.set(Chat.MESSAGE)])
        self.talks.append(Talk(owner, chat, {1: Said("user")}, 2))

    def attempt(self, call: Callable[[], Any]) -> tuple[Any, AideerError | None]:
        """What a call answers, or how it is refused."""
        try:
            return call(), None
        except AideerError as error:
            return None, error

    # --- clients

    @rule(talk=TALKS, type=st.sampled_from(["chat_generation", TITLE]), key=KEYS)
    def ask(self, talk: Talk, type: str, key: str | None) -> None:
        wanted = NewTask(chat_id=talk.chat.id, type=type, stream=False)
        request = IdempotentRequest(talk.owner.person.id, f"POST /tasks {talk.chat.id} {type}", key, wanted)
        known = [work for work in self.works if key and (work.talk, work.type, work.key) == (talk, type, key)]
        if known:
            assert admission.create(talk.owner.caller, wanted, request).task_id == known[0].id
            return
        busy = type != TITLE and talk.active is not None
        if talk.deleted:
            refusal = "chat_not_found"
        elif busy:
            refusal = "task_running"
        elif type != TITLE and not talk.asks(talk.next_n):
            refusal = "last_message_not_user"
        elif type == TITLE and not any(said.visible for said in talk.messages.values()):
            refusal = "empty_chat"
        else:
            refusal = None
        self._accept(talk, type, refusal, None, lambda: admission.create(talk.owner.caller, wanted, request), key)

    @rule(talk=TALKS, what=st.sampled_from(list(QUESTIONS)), way=WAYS, key=KEYS)
    def ask_at_once(self, talk: Talk, what: str, way: str, key: str | None) -> None:
        """One request with the question."""
        roles = QUESTIONS[what]
        asks = roles[-1] == "user" if roles else talk.asks(talk.next_n)
        if talk.deleted:
            refusal = "chat_not_found"
        elif talk.active:
            refusal = "task_running"
        else:
            refusal = None if asks else "last_message_not_user"
        self._ask_at_once(talk, way, key and f"{talk.chat.id} {what}", {"chat_id": talk.chat.id}, roles, refusal)

    @rule(talk=TALKS, way=WAYS, key=KEYS, wishes=st.booleans())
    def ask_in_new_chat(self, talk: Talk, way: str, key: str | None, wishes: bool) -> None:
        """One request that opens another chat on the preset of this one."""
        about = {"auto_title": True} if wishes else {"title": "Opened"}
        opened = {"chat": {"preset_id": talk.chat.preset_id, **about}}
        new = Talk(talk.owner, talk.chat, {}, 1, title="Opened", source=Chat.PERSON)
        if wishes:  # and so the first message gives it a title
            new.title, new.source, new.wishes = "more", Chat.MESSAGE, True
        if work := self._ask_at_once(new, way, key and f"{talk.chat.preset_id} {wishes}", opened, ["user"], None):
            new.chat = Chat.get(Task.get(work.id, consistent_read=True).chat_id, consistent_read=True)
            self.talks.append(new)

    @rule(talk=TALKS, place=st.integers(0, 5), what=st.sampled_from(list(QUESTIONS)), way=WAYS, key=KEYS)
    def branch_off(self, talk: Talk, place: int, what: str, way: str, key: str | None) -> None:
        """One request with a question in the place of an earlier message, or of none."""
        roles = QUESTIONS[what] or ["user"]
        n = sorted(talk.messages)[place] if place < len(talk.messages) else talk.next_n
        if talk.deleted:
            refusal = "chat_not_found"
        elif talk.active:
            refusal = "task_running"
        elif n not in talk.messages:
            refusal = "message_not_found"
        else:
            refusal = None if roles[-1] == "user" else "last_message_not_user"
        body = {"chat_id": talk.chat.id, "branch_at": n}
        self._ask_at_once(talk, way, key and f"{talk.chat.id} {what} at {n}", body, roles, refusal, branch_at=n)

    @precondition(some("works"))
    @rule(old=WORKS, way=WAYS, key=KEYS)
    def go_on(self, old: Work, way: str, key: str | None) -> None:
        """One request for the rest of an answer."""
        talk = old.talk
        refusal, last = self._find_last(old)
        if refusal in (None, "not_last_answer") and not (refusal is None and talk.messages[last or 0].cut_off):
            refusal = "not_cut_off"
        refusal = self._unless_deleted(old, refusal, way)
        self._ask_at_once(talk, way, key and f"{old.id} rest", {"continues": old.id}, [], refusal, last)

    def _find_last(self, old: Work) -> tuple[str | None, int | None]:
        """Why a task's answer cannot be replaced, or the n of what is replaced."""
        talk = old.talk
        if old.deleted or old.by:
            return "task_not_found", None
        if talk.deleted:
            return "chat_not_found", None
        if talk.active is not None:
            return "task_running", None
        last = max(talk.messages, default=None)
        said = talk.messages[last] if last else None
        mine = said is not None and said.task_id is not None
        if mine and said and said.task_id != old.id:
            branch = old.branch if old.generation == talk.generation else MAIN
            mine = (last, said.branch) == (old.replaces, branch)
        return (None if mine and old.type != TITLE else "not_last_answer"), last

    def _unless_deleted(self, old: Work, refusal: str | None, way: str) -> str | None:
        """A deleted user is found by the transaction, if there is one, or by the read after another refusal.

        Such a refusal comes of all that the job has removed by then that removes the user.
        """
        if not old.talk.owner.deleted_at:
            return refusal
        task, chat = lookup.find(Task, old.id), lookup.find(Chat, old.talk.chat.id)
        is_removed = not task or not chat or bool(chat.deleted)
        found = refusal is not None or way not in (NEVER, LATE) or is_removed
        return "token_revoked" if found else refusal

    @rule(talk=TALKS, place=st.integers(0, 5))
    def switch(self, talk: Talk, place: int) -> None:
        """Show another branch, or the same, or one that there is not."""
        branch = ([*talk.unshown, talk.branch] * 5)[place] if place < 5 else "another"
        _, error = self.attempt(lambda: edits.switch(talk.owner.person.user, talk.chat.id, branch, "*"))
        refusal = "branch_not_found" if branch == "another" else None
        if talk.deleted:
            refusal = "chat_not_found"
        elif talk.active:
            refusal = "task_running"
        assert (error and error.code) == refusal
        if not error:
            talk.show(branch)
            self._settled(talk)

    @rule(talk=TALKS, place=st.integers(0, 5))
    def edit(self, talk: Talk, place: int) -> None:
        """One message, or none."""
        n, refusal = self._find_message(talk, place)
        change = MessageChange(content=new_id())
        _, error = self.attempt(lambda: edits.edit(talk.owner.person.user, talk.chat.id, n, change, "*"))
        assert (error and error.code) == refusal
        if not error:
            talk.put(n, Said(talk.messages[n].role, branch=talk.messages[n].branch))

    @rule(talk=TALKS, place=st.integers(0, 5), following=st.booleans())
    def remove(self, talk: Talk, place: int, following: bool) -> None:
        """One message, or with all that follow."""
        n, refusal = self._find_message(talk, place)
        gone = [other for other in talk.messages if other == n or (following and other > n)]
        if refusal is None and following and any(len(talk.find_next(other)) > 1 for other in gone):
            refusal = "branches_follow"
        user = talk.owner.person.user
        _, error = self.attempt(lambda: edits.remove(user, talk.chat.id, n, following=following, if_match="*"))
        assert (error and error.code) == refusal
        if not error:
            for other in gone:
                talk.put(other, None)
            self._settled(talk)

    def _find_message(self, talk: Talk, place: int) -> tuple[int, str | None]:
        n = sorted(talk.messages)[place] if place < len(talk.messages) else talk.next_n
        if talk.deleted:
            return n, "chat_not_found"
        if talk.active and n <= (talk.active.answer_n or 0):
            return n, "task_running"
        return n, None if n in talk.messages else "message_not_found"

    def _settled(self, talk: Talk) -> None:
        """Drop what has no message of its own, and go on to the end, as the chat itself says. It has lost nothing by that."""
        before, tree = talk.messages, Chat.get(talk.chat.id, consistent_read=True).tree
        if not any(said.branch == talk.branch for said in before.values()) or any(
            before.items() < path.items() for path in talk.paths
        ):
            talk.show(tree.shown)
        assert tree.shown == talk.branch
        assert before.items() <= talk.messages.items()
        for branch, (path, _) in list(talk.unshown.items()):
            if branch != MAIN and not any(said.branch == branch for said in path.values()):
                del talk.unshown[branch]

    @precondition(some("works"))
    @rule(
        old=WORKS,
        way=st.one_of(st.just("regenerate"), WAYS),
        key=KEYS,
        model=st.sampled_from([None, None, "qwen-max"]),
    )
    def ask_again(self, old: Work, way: str, key: str | None, model: str | None = None) -> None:
        talk = old.talk
        refusal, last = self._find_last(old)
        if refusal is None and not talk.asks(last or 0):
            refusal = "last_message_not_user"
        refusal = self._unless_deleted(old, refusal, way)
        if way != "regenerate":
            body = {"regenerate": old.id, **({"model": model} if model else {})}
            self._ask_at_once(talk, way, key and f"{old.id} again {model}", body, [], refusal, last)
            return
        request = IdempotentRequest(talk.owner.person.id, "again", None, "")
        self._accept(
            talk, old.type, refusal, last, lambda: admission.regenerate(talk.owner.caller, old.id, request), None
        )

    def _ask_at_once(
        self,
        talk: Talk,
        way: str,
        key: str | None,
        body: dict[str, Any],
        roles: list[str],
        refusal: str | None,
        replaces: int | None = None,
        branch_at: int | None = None,
    ) -> Work | None:
        """Ask by one of WAYS, and return the new task. A known key gets its first task."""
        caller, key = talk.owner.caller, key or new_id()
        body = {**body, "messages": [{"role": role, "content": "more"} for role in roles]}
        wanted = NewTask(**body, stream=False) if way == "queue" else NewQuestion(**body)
        request = admission.identify(caller, wanted, key)

        def call() -> Any:
            if isinstance(wanted, NewTask):
                return admission.create(caller, wanted, request)
            return admission.begin(caller, wanted, request)

        if known := self.asked.get(key):
            answer, error = self.attempt(call)
            assert (error and error.code) == ("token_revoked" if talk.owner.deleted_at else None)
            if isinstance(answer, Accepted):
                assert (answer.task.id, answer.prompt) == (known.id, None)
            assert not answer or isinstance(answer, Accepted) or answer.task_id == known.id
            return None
        if way in (NEVER, LATE):
            # A remembered chat is not read first. Its transaction would be refused, but gets no answer.
            is_read = (talk.owner.person.id, body.get("chat_id")) not in conversations._remembered
            refusal = (refusal if is_read else None) or "busy"
        with doubtful(way):
            work = self._accept(talk, "chat_generation", refusal, replaces, call, key, roles, branch_at)
        if work:
            self.asked[key] = work
        return work

    def _accept(
        self,
        talk: Talk,
        type: str,
        refusal: str | None,
        replaces: int | None,
        call: Callable[[], Any],
        key: str | None,
        roles: Sequence[str] = (),
        branch_at: int | None = None,
    ) -> Work | None:
        balance = self.balance(talk.owner)
        answer, error = self.attempt(call)
        if error and error.code == "insufficient_credits":
            assert error.extra["credits_left"] == balance < error.extra["credits_needed"]
            assert refusal is None
            return None
        assert (error and error.code) == refusal, (error and error.code, refusal)
        if error:
            return None
        here = isinstance(answer, Accepted)
        task_id, hold = (answer.task.id, int(answer.task.hold)) if here else (answer.task_id, answer.credits_held)
        assert 0 < hold <= balance
        stored = Task.get(task_id, consistent_read=True)
        if branch_at:
            new = str(Chat.get(talk.chat.id, consistent_read=True).branch)
            assert new not in (talk.branch, *talk.unshown)
            talk.unshown[new] = {n: said for n, said in talk.messages.items() if n < branch_at}, branch_at
            talk.show(new)
        added = {n: Said(role, branch=talk.branch) for n, role in enumerate(roles, talk.next_n)}
        assert list(answer.messages or ()) == list(added)
        talk.messages |= added
        talk.next_n += len(added)
        is_title = type == TITLE
        entitles = talk.awaits_title and not is_title
        work = Work(
            task_id,
            talk,
            type,
            hold,
            None if is_title else talk.next_n,
            replaces,
            talk.title,
            clock.now(),
            branch=talk.branch,
            generation=talk.generation,
            entitles=entitles,
        )
        assert bool(stored.entitles) == entitles
        work.lease = float(stored.lease_until)
        work.key = key
        self.works.append(work)
        if not is_title:
            talk.active, talk.next_n = work, talk.next_n + 1
            assert Chat.get(stored.chat_id, consistent_read=True).version == answer.chat_version
        if here:
            assert answer.prompt
            work.status, work.executor = "running", stored.executor
            self.executors.append(Executor(work, answer.task, answer))
            if not replaces:
                path = Chat.get(stored.chat_id, consistent_read=True).path
                read = prompts.newest_first(path, int(stored.answer_n), prompts.READS)
                assert list(answer.prompt.turns.shown) == [(said.role, said.type, said.content) for said in read]
        return work

    @rule(talk=TALKS, roles=st.lists(st.sampled_from(["user", "assistant"]), min_size=1, max_size=3))
    def append(self, talk: Talk, roles: list[str]) -> None:
        new = NewMessages.model_validate({"messages": [{"role": role, "content": "more"} for role in roles]})
        stored, error = self.attempt(lambda: chats.append(talk.owner.person.user, talk.chat.id, new))
        assert (error and error.code) == ("chat_not_found" if talk.deleted else None)
        if error:
            return
        assert [message.n for message in stored] == list(range(talk.next_n, talk.next_n + len(roles)))
        talk.messages |= {message.n: Said(message.role, branch=talk.branch) for message in stored}
        talk.next_n += len(roles)

    @rule(talk=TALKS, keep=st.integers(0, 3), add=st.integers(0, 2))
    def replace(self, talk: Talk, keep: int, add: int) -> None:
        chat = Chat.get(talk.chat.id, consistent_read=True) if not talk.deleted else talk.chat
        kept = list(Message.query(chat.thread, consistent_read=True))[:keep]
        placed = [PlacedMessage(n=message.n, role=message.role, content=message.content) for message in kept]
        placed += [PlacedMessage(role="user", content="new")] * add
        change = ChatChange(messages=placed)
        _, error = self.attempt(lambda: chats.change(talk.owner.person.user, talk.chat.id, change, "*"))
        refusal = "task_running" if talk.active else "chat_branched" if talk.unshown else None
        assert (error and error.code) == ("chat_not_found" if talk.deleted else refusal)
        if error:
            return
        talk.generation += 1
        talk.messages = {message.n: talk.messages[message.n] for message in kept}
        talk.messages |= dict.fromkeys(range(talk.next_n, talk.next_n + add), Said("user"))
        talk.next_n += add

    @rule(talk=TALKS, what=st.sampled_from(["rename", "rename", "delete", "work_jobs"]))
    def tidy(self, talk: Talk, what: str) -> None:
        """What happens now and then."""
        {"rename": self.rename, "delete": self.delete_chat, "work_jobs": self.work_jobs}[what](talk)

    def rename(self, talk: Talk) -> None:
        title = f"{talk.title[:20]}+"
        change = ChatChange(title=title)
        _, error = self.attempt(lambda: chats.change(talk.owner.person.user, talk.chat.id, change, None))
        assert (error and error.code) == ("chat_not_found" if talk.deleted else None)
        if not error:
            talk.title, talk.source = title, Chat.PERSON

    @rule(talk=TALKS, wishes=st.sampled_from([True, True, False]))
    def wish(self, talk: Talk, wishes: bool) -> None:
        """For a title of the model's. Or take the wish back."""
        change = ChatChange(auto_title=wishes)
        _, error = self.attempt(lambda: chats.change(talk.owner.person.user, talk.chat.id, change, None))
        assert (error and error.code) == ("chat_not_found" if talk.deleted else None)
        talk.wishes = talk.wishes if error else wishes

    @rule(talk=TALKS, text=TEXTS, renames=st.booleans())
    def answer_and_title(self, talk: Talk, text: str, renames: bool) -> None:
        """The usual way of a wish, and perhaps a person who is faster than the title."""
        self.wish(talk, True)
        self.answer(talk, text, False)
        self.work_jobs(talk)
        if renames:
            self.rename(talk)
        if talk.titled and talk.titled.status == "pending":
            self.deliver(talk.titled)
            self.say(self.executors[-1], text)
            self.settle(self.executors[-1], "stop", output=3)

    def delete_chat(self, talk: Talk) -> None:
        _, error = self.attempt(lambda: chat_deletion.delete(talk.owner.person.user, talk.chat.id))
        assert (error and error.code) == ("chat_not_found" if talk.deleted else None)
        if error:
            return
        talk.deleted = True
        if talk.active and talk.active.status == "pending":
            self.ended(talk.active, "stopped", 0, "")
        self._open(talk.owner)

    @rule(someone=PEOPLE, text=CODES, key=st.sampled_from([None, "a"]))
    def redeem(self, someone: Someone, text: str, key: str | None) -> None:
        if someone.deleted_at:
            return
        value, max_uses = self.codes[text]
        wanted = NewRedemption(redeem_code=text)
        request = IdempotentRequest(someone.person.id, f"redeem {text}", key, wanted)
        repeated = key is not None and someone.redeemed.get(text) == key
        before = self.balance(someone)
        answer, error = self.attempt(lambda: topups.redeem(someone.person.user, text, request))
        if repeated:
            assert error is None
            return
        refusal = "code_used_up" if self.uses[text] == max_uses else None
        if text in self.revoked:
            refusal = "code_revoked"
        if text in someone.redeemed:
            refusal = "code_already_redeemed"
        assert (error and error.code) == refusal
        if error:
            return
        assert answer["credits_left"] == before + value
        someone.redeemed[text] = key
        someone.ledger += value
        self.uses[text] += 1

    @rule(someone=PEOPLE)
    def delete_user(self, someone: Someone) -> None:
        """They are gone for all clients, while executors go on with their tasks. Another one comes."""
        if someone.deleted_at or len(self.works) < 3:
            return
        deletion.delete(someone.person.user, someone.person.id)
        someone.deleted_at = clock.now()
        self.talks = [talk for talk in self.talks if talk.owner is not someone]
        self.people.append(Someone(self.world.person(500), 500))
        self._open(self.people[-1])

    @rule(text=CODES, really=st.integers(0, 3))
    def revoke(self, text: str, really: int) -> None:
        if really == 3:  # now and then: nothing more comes of it
            redeem_codes.revoke(self.admin, text)
            self.revoked.add(text)

    @rule(someone=PEOPLE, amount=st.sampled_from([50, -50, -700]), key=st.sampled_from([None, "a"]))
    def grant(self, someone: Someone, amount: int, key: str | None) -> None:
        new = NewGrant(amount=amount, description="because")
        request = IdempotentRequest(self.admin.id, f"grant {someone.person.id} {amount}", key, new)
        left = self.balance(someone) + amount
        answer, error = self.attempt(lambda: topups.grant(someone.person.id, new, self.admin, request))
        if key and amount in someone.granted:
            assert answer["credits_left"] == someone.granted[amount]
            return
        refusal = "insufficient_credits" if left < 0 else None
        if someone.deleted_at:
            refusal = "user_not_found"
        assert (error and error.code) == refusal
        if error:
            return
        assert answer["credits_left"] == left
        someone.ledger += amount
        if key:
            someone.granted[amount] = left

    # --- API keys

    @rule(someone=PEOPLE, limit=st.sampled_from([None, 30, 300]))
    def make_key(self, someone: Someone, limit: int | None) -> None:
        if someone.deleted_at:
            return
        made = make_key(someone.person, credit_limit=limit)
        key = stored_keys.find(made.key)
        self.api_keys.append(Key(someone, made.id, key.hash, limit, key))

    @precondition(some("api_keys"))
    @rule(key=API_KEYS, limit=st.sampled_from([None, 10, 300]), paused=st.booleans())
    def change_key(self, key: Key, limit: int | None, paused: bool) -> None:
        """The key that callers have read is another one after that."""
        wanted = ApiKeyChange(credit_limit=limit, disabled=paused)
        _, error = self.attempt(lambda: api_keys.change(User(key.owner.person.id, permission=1), key.id, wanted))
        assert (error and error.code) == ("key_not_found" if self._is_gone(key) else None)
        if not error:
            key.limit, key.paused, key.version = limit, paused, key.version + 1

    @precondition(some("api_keys"))
    @rule(key=API_KEYS, really=st.booleans())
    def revoke_key(self, key: Key, really: bool) -> None:
        if not really:
            return
        _, error = self.attempt(lambda: api_keys.revoke(User(key.owner.person.id, permission=1), "me", key.id))
        assert (error and error.code) == ("key_not_found" if self._is_gone(key) else None)
        key.revoked = True

    @precondition(some("api_keys"))
    @rule(key=API_KEYS)
    def read_key(self, key: Key) -> None:
        read, error = self.attempt(lambda: stored_keys.read(key.hash))
        refusal = "invalid_api_key" if self._is_gone(key) else "api_key_paused" if key.paused else None
        assert (error and error.code) == refusal
        key.read = read or key.read

    @precondition(some("api_keys"))
    @rule(key=API_KEYS, hold=st.sampled_from([10, 25, 400]))
    def complete(self, key: Key, hold: int) -> None:
        """Hold credits by the key as it was read last."""
        expected = set()
        if key.owner.deleted_at or self.balance(key.owner) < hold:
            expected.add("user")
        fresh = key.read.version == key.version and not key.revoked
        if not fresh or self._is_gone(key) or hold > self._room(key):
            expected.add(key_room.STEP)
        if expected:
            with pytest.raises(Refused) as refused:
                complete(key.read, hold)
            assert refused.value.steps == expected
            return
        task = complete(key.read, hold)
        apart = Talk(key.owner, Chat(new_id()), {}, 1)
        work = Work(task.id, apart, COMPLETION, hold, None, None, "", clock.now(), "running", task.executor, by=key)
        work.lease = float(task.lease_until)
        self.works.append(work)
        self.executors.append(Executor(work, task))

    @rule(someone=PEOPLE, limit=st.sampled_from([None, 300]), text=TEXTS, output=st.integers(0, 900))
    def answer_by_key(self, someone: Someone, limit: int | None, text: str, output: int) -> None:
        """The usual way of a key."""
        before = len(self.executors)
        self.make_key(someone, limit)
        if self.api_keys:
            self.complete(self.api_keys[-1], 25)
        if len(self.executors) > before:
            self.say(self.executors[-1], text)
            self.settle(self.executors[-1], "stop", output)

    def _room(self, key: Key) -> int:
        held = sum(work.hold for work in self.works if work.by is key and work.status in OPEN)
        return (stored_keys.UNLIMITED if key.limit is None else key.limit) - key.spent - held

    def _is_gone(self, key: Key) -> bool:
        return key.revoked or find_room(key.hash) is None

    @precondition(lambda rules: any(someone.deleted_at for someone in rules.people))
    @rule(times=st.integers(1, 3))
    def minutes_later(self, times: int) -> None:
        """What it takes for a deleted user to be gone."""
        for _ in range(times):
            self.sweep(61)
            self.work_jobs(self.talks[-1])

    @precondition(some("works"))
    @rule(work=WORKS)
    def read(self, work: Work) -> None:
        self.readings.append((work, Task.get(work.id, consistent_read=True)))

    @precondition(some("readings"))
    @rule(reading=READINGS)
    def stop(self, reading: tuple[Work, Task]) -> None:
        work, task = reading
        stored = control.stop(task)
        if task.status == "pending" and work.status == "pending":
            self.ended(work, "stopped", 0, "")
        if task.status in OPEN:  # else it was shown as it had been read
            assert stored.status == work.status

    @precondition(some("works"))
    @rule(work=WORKS)
    def delete_answer(self, work: Work) -> None:
        """The task goes, and its message and its bill stay."""
        _, error = self.attempt(lambda: control.delete(Task(work.id)))
        assert (error and error.code) == ("task_not_ended" if work.status in OPEN else None)
        work.deleted = work.deleted or error is None

    # --- executors

    @precondition(some("works"))
    @rule(work=WORKS)
    def deliver(self, work: Work) -> None:
        task = leases.claim(work.id)
        assert (task is not None) == (work.status == "pending")
        if task:
            work.status, work.executor, work.lease = "running", task.executor, float(task.lease_until)
            self.executors.append(Executor(work, task))

    @rule(talk=TALKS, text=TEXTS)
    def begin(self, talk: Talk, text: str) -> None:
        """The usual beginning, so that there are answers under way."""
        if not talk.deleted and not talk.active and not talk.asks(talk.next_n):
            self.append(talk, ["user"])
        self.ask(talk, "chat_generation", None)
        if talk.active:
            self.read(talk.active)
            self.deliver(talk.active)
            self.say(self.executors[-1], text)

    @rule(talk=TALKS, text=TEXTS, again=st.booleans())
    def answer(self, talk: Talk, text: str, again: bool) -> None:
        """The usual end, and perhaps the wish for another answer."""
        before = len(self.executors)
        self.begin(talk, text)
        if len(self.executors) > before:
            executor = self.executors[-1]
            self.settle(executor, "stop", output=9)
            if again:
                self.ask_again(executor.work, "regenerate", None)

    @rule(talk=TALKS, text=TEXTS, way=WAYS, change=st.sampled_from([None, None, "append", "edit", "switch", "ask"]))
    def converse(self, talk: Talk, text: str, way: str, change: str | None) -> None:
        """Two questions, and between them an answer of the process that gets both, and perhaps a change."""
        before = len(self.executors)
        self.ask_at_once(talk, "message", "stream", None)
        if len(self.executors) == before:
            return
        self.say(self.executors[-1], text)
        self.settle(self.executors[-1], "stop", output=9)
        match change:
            case "append":
                self.append(talk, ["user"])
            case "edit":
                self.edit(talk, 0)
            case "switch":
                self.switch(talk, 0)
            case "ask":
                self.ask_at_once(talk, "message", "queue", None)
        self.ask_at_once(talk, "message", way, None)

    @rule(talk=TALKS, text=TEXTS, way=WAYS)
    def answer_in_two_parts(self, talk: Talk, text: str, way: str) -> None:
        """The usual way of an answer that is cut off."""
        before = len(self.executors)
        self.begin(talk, text)
        if len(self.executors) == before:
            return
        first = self.executors[-1]
        self.settle(first, "length", output=9)
        so_far = lookup.find(Message, first.task.thread, first.task.answer_n)  # itself perhaps the rest of an answer
        self.go_on(first.work, way, None)
        rest = self.executors[-1]
        if rest is not first:
            assert so_far
            self.say(rest, text)
            self.settle(rest, "stop", output=3)
            message = Message.get(rest.task.thread, rest.task.answer_n, consistent_read=True)
            assert message.content == so_far.content + rest.said
            assert message.credits == so_far.credits + rest.work.credits

    @rule(talk=TALKS, place=st.integers(0, 3), text=TEXTS)
    def answer_in_a_branch(self, talk: Talk, place: int, text: str) -> None:
        """The usual way of a question that is asked otherwise."""
        before = len(self.executors)
        self.branch_off(talk, place, "message", "stream", None)
        if len(self.executors) > before:
            self.say(self.executors[-1], text)
            self.settle(self.executors[-1], "stop", output=9)

    @precondition(some("executors"))
    @rule(executor=EXECUTORS, text=TEXTS)
    def say(self, executor: Executor, text: str) -> None:
        stream_log.write(executor.task.id, stream_log.Slice(len(executor.said), "content", text))
        executor.said += text

    @precondition(some("executors"))
    @rule(executor=EXECUTORS, output=st.sampled_from([None, 0, 3, 900]))
    def renew(self, executor: Executor, output: int | None) -> None:
        usage = None if output is None else Usage(20, output)
        stored = leases.renew(executor.task, usage)
        assert (stored is not None) == self.owns(executor)
        assert (leases.reload_if_owner(executor.task) is not None) == self.owns(executor)
        if stored:
            executor.work.lease = float(stored.lease_until)

    @precondition(some("executors"))
    @rule(
        executor=EXECUTORS,
        reason=st.sampled_from(["stop", "stop", "length", "content_filter", "stopped"]),
        output=st.integers(0, 5_000),
    )
    def settle(self, executor: Executor, reason: str, output: int) -> None:
        work, task, usage = executor.work, executor.task, Usage(20, output)
        status: Literal["finished", "stopped"] = "stopped" if reason == "stopped" else "finished"
        text = Text(content=executor.said)
        end = credits.settle(task, Closer.executor(task.executor), status, text, reason, usage)
        if self.owns(executor):
            cost = pricing.compute_cost(task.tariff, usage)
            work.talk.owner.uncovered += max(cost - work.hold, 0)
            self.ended(work, status, min(cost, work.hold), executor.said, reason)
            if executor.accepted and executor.accepted.prompt:
                conversations.remember(executor.accepted.prompt, executor.accepted.chat_version, results.read(end))
        assert (end.status, int(end.credits or 0)) == (work.status, work.credits)

    @precondition(some("executors"))
    @rule(executor=EXECUTORS, lost=st.sampled_from([0, 7]))
    def fail(self, executor: Executor, lost: int) -> None:
        text, closer = Text(content=executor.said), Closer.executor(executor.task.executor)
        end = credits.release(executor.task, closer, "upstream_error", text, uncovered_credits=lost)
        if self.owns(executor):
            executor.work.talk.owner.uncovered += lost
            self.ended(executor.work, "failed", 0, executor.said)
        assert end.status == executor.work.status

    def owns(self, executor: Executor) -> bool:
        return executor.work.status == "running" and executor.work.executor == executor.task.executor

    # --- the schedule

    @rule(seconds=st.sampled_from([1, int(settings.LEASE_SECONDS) + 1]))
    def wait(self, seconds: int) -> None:
        self.world.clock.ahead += seconds

    @rule(seconds=st.sampled_from([0, 61, 400]))
    def sweep(self, seconds: int) -> None:
        self.wait(seconds)
        now = clock.now()
        running = [work for work in self.works if work.status == "running"]
        said = {work.id: stream_log.read_text(work.id).content for work in running}
        lost = {work.id: uncovered.compute_bound(Task.get(work.id, consistent_read=True)) for work in running}
        sweeper.sweep()
        for work in self.works:
            if work.status == "running" and work.lease < now:
                work.talk.owner.uncovered += lost[work.id]
                self.ended(work, "failed", 0, said[work.id])
            elif work.status == "pending" and work.lease < now:
                stored = Task.get(work.id, consistent_read=True)
                assert (stored.status == "failed") == (now >= work.accepted_at + leases.QUEUE_SECONDS - 0.01)
                if stored.status == "failed":
                    self.ended(work, "failed", 0, "")
                else:
                    work.lease = float(stored.lease_until)

    @precondition(some("readings"))
    @rule(reading=READINGS)
    def sweep_late(self, reading: tuple[Work, Task]) -> None:
        """A sweep that read the task some time ago."""
        work, task = reading
        if task.status not in OPEN or float(task.lease_until) >= clock.now():
            return
        text, lost = stream_log.read_text(task.id), uncovered.compute_bound(task)
        end = credits.release(task, Closer.sweep(task), "interrupted", text, uncovered_credits=lost)
        if work.status == task.status and work.lease == float(task.lease_until):
            work.talk.owner.uncovered += lost
            self.ended(work, "failed", 0, text.content)
        assert end.status == work.status

    def work_jobs(self, _: Talk) -> None:
        with self.watched_titles():
            for pk, sk in sorted(self.world.job_keys):
                if sk < clock.timestamp():
                    jobs.run(pk, sk, time.monotonic() + 60, WORKERS)
        for talk in self.talks:
            if talk.deleted and talk.active and talk.active.status == "pending":
                self.ended(talk.active, "stopped", 0, "")
        for someone in self.people:
            if someone.deleted_at and clock.now() > someone.deleted_at + deletion.BEFORE_SECONDS:
                for work in self.open_of(someone):
                    if work.status == "pending":
                        self.ended(work, "stopped", 0, "")

    @contextmanager
    def watched_titles(self) -> Iterator[None]:
        """Take over what the jobs of titles do, and look whether it is what they should do."""
        talks = {talk.chat.id: talk for talk in [*self.talks, *(work.talk for work in self.works)]}
        due = {id for id, talk in talks.items() if talk.jobs and talk.awaits_title}
        due -= {id for id, talk in talks.items() if talk.deleted or talk.owner.deleted_at}
        seen: Counter[str] = Counter()
        entitle = admission.entitle

        def look(caller: Bearer, chat_id: str) -> None:
            talk, balance = talks[chat_id], self.balance(talks[chat_id].owner)
            seen[chat_id] += 1
            _, error = self.attempt(lambda: entitle(caller, chat_id))
            assert talk.awaits_title
            if error and error.code == "insufficient_credits":
                assert error.extra["credits_left"] == balance < error.extra["credits_needed"]
            elif error:
                assert error.code == "empty_chat"
                assert not any(said.visible for said in talk.messages.values())
            else:
                self._note_title(talk)
            if error:
                raise error

        with mock.patch.object(admission, "entitle", look):
            yield
        assert seen.keys() == due
        for id, talk in talks.items():
            assert seen[id] <= talk.jobs
            talk.jobs = 0

    def _note_title(self, talk: Talk) -> None:
        stored = Task.get(Chat.get(talk.chat.id, consistent_read=True).title_task, consistent_read=True)
        accepted_at = clock.parse(stored.create_time)
        work = Work(stored.id, talk, TITLE, int(stored.hold), None, None, talk.title, accepted_at, unasked=True)
        assert (stored.type, stored.status, stored.chat_id) == (TITLE, "pending", talk.chat.id)
        work.lease = float(stored.lease_until)
        talk.titled = work
        self.works.append(work)

    # --- what the model makes of it

    def balance(self, someone: Someone) -> int:
        return someone.ledger - sum(work.hold for work in self.open_of(someone))

    def open_of(self, someone: Someone) -> list[Work]:
        return [work for work in self.works if work.status in OPEN and work.talk.owner is someone]

    def ended(self, work: Work, status: str, cost: int, text: str, reason: str = "") -> None:
        """Close a task in the model."""
        assert work.status in OPEN
        talk = work.talk
        work.status, work.credits = status, cost
        talk.owner.ledger -= cost
        if work.by:
            work.by.spent += cost
            return
        if work.type == TITLE:
            free = talk.source in Chat.PROVISIONAL if work.unasked else talk.title == work.title_before
            title = characters.extract_title(text)
            if reason in ("stop", "length") and not talk.deleted and free and title:
                talk.title, talk.source = title, Chat.MODEL
            return
        if not talk.deleted:
            talk.active = None
        is_whole = status != "failed" and reason != "content_filter"
        if not text or talk.deleted or (work.replaces and not is_whole):
            return
        assert work.answer_n
        assert talk.branch == work.branch or talk.generation != work.generation
        is_cut = status == "failed" or reason in CUT_OFF
        talk.messages[work.answer_n] = Said("assistant", is_whole, work.id, talk.branch, is_cut)
        talk.jobs += work.entitles and is_whole
        if work.replaces:
            talk.put(work.replaces, None)

    # --- I1 to I5, and that nothing else has moved

    @invariant()
    def the_rules_hold(self) -> None:
        type(self).steps += 1
        users = {user.id: user for user in User.batch_get([s.person.id for s in self.people], consistent_read=True)}
        stored = {task.id: task for task in Task.batch_get([w.id for w in self.works], consistent_read=True)}
        for someone in self.people:
            user = users.get(someone.person.id)
            if user is None:
                assert someone.deleted_at
                assert self.open_of(someone) == [], "I3"
                continue
            assert bool(user.deleted) == bool(someone.deleted_at)
            entries = list(CreditEntry.query(user.id, consistent_read=True))
            mine = [work for work in self.works if work.talk.owner is someone]
            assert user.credits >= 0, "I1"
            assert user.credits + credits.sum_holds(user) == sum(entry.amount for entry in entries), "I2"
            assert someone.ledger == sum(entry.amount for entry in entries), "I2"
            assert dict(user.holds.attribute_values) == {work.id: work.hold for work in self.open_of(someone)}, "I3"
            billed = sorted(entry.task_id for entry in entries if entry.task_id)
            assert billed == sorted(work.id for work in mine if work.status in ("finished", "stopped")), "I4"
            redeemed = [entry.code for entry in entries if entry.kind == "redeem"]
            assert sorted(redeemed) == sorted(someone.redeemed), "I5"
            counted = Record.query(f"uncovered#{user.id}", consistent_read=True)
            assert sum(record.uncovered or 0 for record in counted) == someone.uncovered, "I6"
        for key in self.api_keys:
            room = find_room(key.hash)
            assert room == self._room(key) or (room is None and key.owner.deleted_at)
        for code in Code.batch_get(list(self.codes), consistent_read=True):
            assert code.used == self.uses[code.code] <= code.max_uses, "I5"
        for work in self.works:
            assert stored[work.id].status == work.status
            assert (stored[work.id].open_shard is not None) == (work.status in OPEN)

    @invariant()
    def chats_are_as_they_should_be(self) -> None:
        found = {chat.id: chat for chat in Chat.batch_get([t.chat.id for t in self.talks], consistent_read=True)}
        for talk in self.talks:
            chat = found.get(talk.chat.id)
            if talk.deleted:
                assert chat is None or chat.deleted
                continue
            assert chat
            assert chat.active_task == (talk.active.id if talk.active else None)
            assert (chat.next_n, chat.message_count) == (talk.next_n, len(talk.messages))
            assert chat.tree.shown == talk.branch
            assert set(chat.tree.ids) == {MAIN, talk.branch, *talk.unshown}
            assert chat.preview_n in (None, max(talk.messages, default=None))
            assert (chat.title, chat.title_source) == (talk.title, talk.source)
            assert bool(chat.auto_title) == talk.wishes
            assert chat.title_task == (talk.titled.id if talk.titled else None)

    def teardown(self) -> None:
        """Threads are read once, at the end: all of them, whole."""
        for talk in self.talks:
            if not talk.deleted:
                self._compare_threads(talk, Chat.get(talk.chat.id, consistent_read=True))

    def _compare_threads(self, talk: Talk, chat: Chat) -> None:
        for branch, thread in zip(chat.tree.ids, chat.tree.threads, strict=True):
            messages = {
                message.n: Said(
                    message.role,
                    message.finish_reason not in LEFT_OUT,
                    message.task_id,
                    branch,
                    message.finish_reason in CUT_OFF,
                )
                for message in Message.query(thread, consistent_read=True)
            }
            expected = {n: said for path in talk.paths for n, said in path.items() if said.branch == branch}
            assert messages == expected
        for branch, (path, next_n) in [(talk.branch, (talk.messages, talk.next_n)), *talk.unshown.items()]:
            tree = chat.tree
            tree.show(branch)
            if tree.shown == branch:
                assert (tree.total, tree.to_fields()["next_n"]) == (len(path), next_n)
