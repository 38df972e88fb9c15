"""Real processes, really killed: many answers and requests at once in each, at instants spread over their whole work."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from aideer.core import settings
from aideer.core.errors import AideerError
from aideer.data.models import Chat, CreditEntry, Record
from aideer.security import api_keys as stored_keys
from tests.api_keys import make_key
from tests.chaos import victim
from tests.chaos.cases import Lab
from tests.chaos.harness import BROKEN, CALLED_TWICE, Violation, World, completions_of, find_contents, ui_body
from tests.support import Person

ROOT = Path(__file__).parents[2]
QUESTION = "/sim tokens=12 delay=8"


class Victims:
    """The process whose children are killed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def killed(
        self, answers: list[str], works: list[list[str]], after_seconds: float | None
    ) -> tuple[bool, dict[str, str]]:
        """Let one work, and kill it so long after it began (or not at all); whether it was, and what it had said to be done."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"answers": answers, "works": works}) + "\n")
        self._process.stdin.flush()
        begun, pid = self._process.stdout.readline().split()
        assert begun == "begun"
        if after_seconds is not None:
            time.sleep(after_seconds)  # the instant is what is varied
            with contextlib.suppress(ProcessLookupError):  # it was done before
                os.kill(int(pid), signal.SIGKILL)
        done = {}
        while (said := self._process.stdout.readline().split())[0] != "over":
            done[said[1]] = said[2]
        return said[1] == "killed", done


@contextlib.contextmanager
def victims(lab: Lab) -> Iterator[Victims]:
    """A process that children can be made of at once, with this one's AWS and provider."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT}",
        "POWERTOOLS_LOG_LEVEL": "CRITICAL",
        "DASHSCOPE_HTTP_BASE_URL": lab.provider.base_url,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.victim"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Victims(process)
        finally:
            assert process.stdin
            process.stdin.close()


@dataclass
class Kill:
    """What one kill has struck, and what it did that must not be."""

    killed: bool
    """Or it was done before."""
    tasks: int
    interrupted: int
    unanswered: int
    """Requests to which nothing had been said."""
    seconds: float
    violations: list[Violation]


def instants(lab: Lab, where: Victims, number: int) -> Iterator[float]:
    """So many instants, spread over what the work takes where nobody is killed."""
    whole = strike(lab, where, None)
    assert not whole.violations, whole.violations
    return (whole.seconds * (n + 0.5) / number for n in range(number))


def strike(lab: Lab, where: Victims, after_seconds: float | None) -> Kill:
    """Set up users, kill the process that works for them, let the system mend itself, and look."""
    world = lab.world()
    people = [world.person() for _ in range(3)]
    questions = _questions(world, people)
    answers = [world.accepted(person, world.chat(person, QUESTION), stream=False)["task_id"] for person in people * 2]
    code, deleted = world.code(max_uses=2), world.chat(people[0], QUESTION)
    answers.append(world.accepted(people[0], deleted, stream=False)["task_id"])
    works = {f"redeem-{n}": ["redeem", person.id, code, f"key-{n}"] for n, person in enumerate((people[0], people[1]))}
    asked = {
        f"ask-{n}": ["ask", person.id, world.chat(person, QUESTION).id, f"key-{n}"]
        for n, person in enumerate(people * 2)
    }
    appended = {uuid4().hex: person for person in people}
    chats = {content: world.chat(person) for content, person in appended.items()}
    works |= asked
    works |= {name: ["ask_and_watch", who.token, name, json.dumps(body)] for name, (who, body) in questions.items()}
    completed = _completions(world, people)
    works |= {name: ["complete", key, json.dumps(body)] for name, (_, key, body) in completed.items()}
    works |= {content: ["append", person.id, chats[content].id, content] for content, person in appended.items()}
    works |= {"delete": ["delete", people[0].id, deleted.id], "sweep": ["sweep", people[0].id]}
    order = [[name, *work] for name, work in works.items()]
    random.shuffle(order)
    world.messages.clear()  # its own messages are what the process has in hands

    began = time.monotonic()
    killed, done = where.killed(answers, order, after_seconds)
    seconds = time.monotonic() - began

    violations = []
    world.clock.ahead += settings.LEASE_SECONDS + 1  # a killed executor is one whose lease runs out
    for name, (person, body) in questions.items():
        violations += _ask_again(world, person, name, body, done.get(name))
    for name, (person, key, body) in completed.items():
        violations += _complete_again(world, person, key, body, done.get(name))
    for name, work in asked.items():
        task_id = _again(world, victim.ask, *work[1:])
        world.note_task(task_id)
        if done.get(name, task_id) != task_id:
            violations.append(Violation(BROKEN, "another task of the same key"))
    for name, work in works.items():
        if name.startswith("redeem"):
            _again(world, victim.redeem, *work[1:])
    for content in appended:
        if content in done:
            world.acknowledged[chats[content].id].append(content)
    with contextlib.suppress(AideerError):  # gone already
        victim.delete(people[0].user, deleted.id)
    world.gone.add(deleted.id)
    world.note_jobs()
    world.rest()
    violations += world.violations()
    redeemed = [entry for person in people for entry in CreditEntry.query(person.id) if entry.kind == "redeem"]
    if len(redeemed) != 2:
        violations.append(Violation(BROKEN, f"{len(redeemed)} redemptions of two"))
    stored = world.tasks()
    return Kill(
        killed,
        tasks=len(stored),
        interrupted=sum(task.error_code == "interrupted" for task in stored),
        unanswered=len(works) - len(done),
        seconds=seconds,
        violations=violations,
    )


def _questions(world: World, people: list[Person]) -> dict[str, tuple[Person, dict[str, Any]]]:
    """Questions for POST /tasks/stream, by their keys: in old and new chats and branches, for another answer or its rest.

    Those of the AI SDK are for POST /ui/chat.
    """
    first, second, third = people
    old = world.accepted(third, world.chat(third, QUESTION), stream=False)["task_id"]
    compared = world.accepted(second, world.chat(second, QUESTION), stream=False)["task_id"]
    cut_off = world.accepted(first, world.chat(first, QUESTION, max_tokens=5), stream=False)["task_id"]
    branched, edited = world.chat(third, QUESTION), world.chat(first, QUESTION)
    world.accepted(third, branched, stream=False)
    world.accepted(first, edited, stream=False)
    regenerated = world.chat(second, QUESTION)
    world.accepted(second, regenerated, stream=False)
    world.rest()

    def say() -> list[dict[str, str]]:
        return [{"role": "user", "content": f"{QUESTION} {uuid4().hex}"}]

    def say_ui(chat_id: str, **more: Any) -> dict[str, Any]:
        return ui_body(chat_id, f"{QUESTION} {uuid4().hex}", **more)

    opened = {"preset_id": world.chat(second).preset_id, "title": "Opened"}
    return {
        "message-0": (first, {"chat_id": world.chat(first).id, "messages": say()}),
        "message-1": (second, {"chat_id": world.chat(second).id, "messages": say()}),
        "chat-0": (second, {"chat": opened, "messages": say()}),
        "branch-0": (third, {"chat_id": branched.id, "branch_at": 2, "messages": say()}),
        "again-0": (third, {"regenerate": old}),
        "model-0": (second, {"regenerate": compared, "model": "qwen-max"}),
        "rest-0": (first, {"continues": cut_off}),
        "ui-message-0": (third, say_ui(world.chat(third).id)),
        "ui-chat-0": (first, say_ui(uuid4().hex[:16], preset_id=world.chat(first).preset_id)),
        "ui-edit-0": (first, say_ui(edited.id, message_id="1", messageId="1")),
        "ui-again-0": (second, say_ui(regenerated.id) | {"trigger": "regenerate-message"}),
    }


def _completions(world: World, people: list[Person]) -> dict[str, tuple[Person, str, dict[str, Any]]]:
    """Completions by API keys and by a token, streamed and not: by whom, by which key, and what is sent."""
    streamed = (False, True, True)
    made = {}
    for number, (person, stream) in enumerate(zip(people, streamed, strict=True)):
        question = f"{QUESTION} {uuid4().hex}"
        world.acknowledged[completions_of(person.id)].append(question)
        key = person.token if person is people[-1] else make_key(person, credit_limit=100_000).key
        body = {"model": "qwen-plus", "messages": [{"role": "user", "content": question}], "stream": stream}
        made[f"complete-{number}"] = (person, key, body)
    return made


def _complete_again(
    world: World, person: Person, key: str, body: dict[str, Any], told: str | None
) -> Iterator[Violation]:
    """Repeat a completion as OpenAI's clients do, which have not seen its end."""
    viewing = world.completed(key, body, {"x-stainless-retry-count": "1"})
    scope = f"{person.id}#{'session' if key == person.token else stored_keys.find(key).id}"
    [noted] = Record.query(f"completion#{scope}", consistent_read=True)  # one question, so one record of the attempts
    task_id = noted.data["task_id"]
    world.note_task(task_id)
    if told not in (None, task_id) or victim.find_completion(viewing.sent) not in (None, task_id):
        yield Violation(BROKEN, "another task of the same completion")
    if not viewing.sent:
        yield Violation(BROKEN, "a repeated completion was not answered")
    calls = world.count_calls(body["messages"][0]["content"])
    if calls > 1:
        yield Violation(CALLED_TWICE, f"{calls} calls for one completion")


def _ask_again(world: World, person: Person, key: str, body: dict[str, Any], told: str | None) -> Iterator[Violation]:
    """Repeat a POST /tasks/stream, whose answer its client did not see to the end."""
    viewing = world.asked(person, key, body)
    if not viewing.start:
        yield Violation(BROKEN, f"a repeated question answered {viewing.status}: {viewing.sent}")
        return
    task_id, chat_id = viewing.start["task_id"], viewing.start["chat_id"]
    if told not in (None, task_id):
        yield Violation(BROKEN, "another task of the same key")
    world.note_task(task_id)
    for content in find_contents(body):
        if chat_id in world.chats:
            world.acknowledged[chat_id].append(content)
        else:
            world.adopt(chat_id, content)
        calls = world.count_calls(content)
        if calls > 1:
            yield Violation(CALLED_TWICE, f"{calls} calls for one question")
    if key in ("chat-0", "ui-chat-0"):
        others = world.chats.keys() - {chat_id}
        opened = [chat.id for chat in Chat.by_create_time.query(person.id) if chat.id not in others]
        if opened != [chat_id]:
            yield Violation(BROKEN, f"{len(opened)} chats of one key")


def _again(world: World, work: Callable[..., str], user_id: str, *arguments: str) -> str:
    person = next(person for person in world.people if person.id == user_id)
    return work(person.user, *arguments)
