"""Questions: the messages that a task answers, and the place of its answer in a chat.

A question stands in a stored chat, opens a new one, or asks again for the chat's last answer or for the rest of it. It may bring
messages, which are stored in the transaction that accepts the task. So an accepted question has its messages, and a refused one has
left nothing. A question that takes the place of an earlier message begins a branch of the chat (data/branches.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pynamodb.expressions.update import Action

from aideer.chats import chat_access, chat_titles, chats, messages, presets, quota
from aideer.core import clock
from aideer.core.errors import Conflict, Detail, Forbidden, NotFound, TooLarge
from aideer.data import changes, lookup
from aideer.data.base import new_id
from aideer.data.branches import BRANCHES, SEGMENTS, SIBLINGS, Path, Tree
from aideer.data.models import Chat, Message, Preset, Task, User
from aideer.data.transactions import Transaction
from aideer.prompts import prompts
from aideer.prompts.prompts import Turns
from aideer.schemas.chats import NewMessage
from aideer.schemas.questions import MESSAGES_BYTES, NewQuestion, OpenedChat
from aideer.security.auth import Bearer
from aideer.tasks import control
from aideer.tasks.conversations import Conversation
from aideer.uploads.attachments import Attachments

CUT_OFF = ("length", "interrupted")
"""How answers end that can be continued."""
CONTINUED_BYTES = 200_000
"""The most bytes of an answer that can be continued. A message item holds 300,000 bytes of text (received.py)."""


@dataclass(frozen=True, slots=True)
class Fork:
    """The beginning of a branch: its id, its first n, and the n of the message that it continues, or 0."""

    id: str
    first_n: int
    after: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question: the chat's messages below its next n, and then the messages `new`."""

    chat: Chat
    """The chat as it was read. A chat that the question opens has no messages yet."""
    type: str
    new: Sequence[Message] = ()
    replaces: int | None = None
    visibility: bool | None = None
    """The visibility of the replaced answer. The new answer is shown to the same readers."""
    opens: Preset | None = None
    """The head of the preset on which the question opens its chat."""
    user: User | None = field(default=None, repr=False)
    """The user, if the right to the preset had to be checked."""
    attachments: Attachments | None = field(default=None, repr=False)
    """The uploads that the new messages name."""
    unasked: bool = False
    """Whether the question is for the title of a chat with `auto_title`."""
    fork: Fork | None = None
    """The branch that the question begins."""
    answering: Preset | None = None
    """The head of the preset that answers in place of the chat's own."""
    model: str | None = None
    """The model that answers in place of the preset's."""
    parameters: Mapping[str, Any] | None = None
    """Parameters of the model's call, within its ranges, that take the place of the preset's."""
    continued: Message | None = None
    """The answer that the new one continues."""
    known: Turns | None = field(default=None, repr=False)
    """The stored messages of the chat, if this process remembers them."""

    @property
    def end(self) -> int:
        """The number that the prompt ends before."""
        return int(self.replaces or self._first_n) + len(self.new)

    @property
    def answer_n(self) -> int:
        """The number of the answer's message."""
        return self._first_n + len(self.new)

    @property
    def path(self) -> Path:
        """The path to the answer."""
        return self._branch_off(0).path if self.fork else self.chat.path

    @property
    def added(self) -> Sequence[Message]:
        """The messages that the prompt has behind the stored ones."""
        return prompts.continue_answer(self.continued) if self.continued else self.new

    @property
    def _first_n(self) -> int:
        return self.fork.first_n if self.fork else int(self.chat.next_n)

    def _branch_off(self, stored: int) -> Tree:
        tree = self.chat.tree
        if self.fork:
            tree.fork(self.fork.id, self.fork.after, stored, self.answer_n + 1, len(self.new))
        return tree

    @property
    def chat_version(self) -> int:
        """The chat's version once the task is accepted. A title's task does not change the chat."""
        return int(self.chat.version) + (self.opens is None and self.type != Task.TITLE)

    def put_in(self, transaction: Transaction, task: Task, stored: int) -> None:
        """Store the new messages, and make the task the chat's active task. A title's task is not made active.

        `stored` is the number of stored messages in the prompt. The transaction is refused with the step "chat" if the chat is
        deleted, has changed, or has another active task.
        """
        if self.unasked:
            condition = chat_titles.still_awaits_title()
            transaction.update("chat", Chat(self.chat.id), [Chat.title_task.set(task.id)], condition)
            changes.mark_in(transaction, task.user_id, task.chat_id)
            return
        if self.type == Task.TITLE:
            transaction.check("chat", Chat(self.chat.id), Chat.id.exists() & Chat.deleted.does_not_exist())
            return
        if self.opens:
            self._open_chat(transaction, self.opens, task)
        else:
            actions: list[Action] = [
                Chat.active_task.set(task.id),
                Chat.version.add(1),
                *self._grow(stored),
                *chat_titles.retitle(self.chat, self.new),
            ]
            condition = Chat.deleted.does_not_exist() & Chat.active_task.does_not_exist()
            transaction.update("chat", Chat(self.chat.id), actions, condition & (Chat.version == self.chat.version))
        changes.mark_in(transaction, task.user_id, self.chat.id)
        chats.put_in(transaction, list(self.new))
        if self.attachments:
            self.attachments.put_in(transaction)
        if self.answering and self.user:
            chats.record_use(transaction, self.user, self.answering)

    def _grow(self, stored: int) -> list[Action]:
        if not self.fork:
            return [Chat.next_n.set(self.answer_n + 1), *chats.growth(list(self.new))]
        shown = chats.find_last_visible(list(self.new)) or messages.find_last_visible(self.chat.path, self.fork.first_n)
        return [
            *chats.update_path(self._branch_off(stored)),
            Chat.update_time.set(self.new[0].create_time),
            *chats.update_preview(shown),
        ]

    def _open_chat(self, transaction: Transaction, preset: Preset, task: Task) -> None:
        chat = Chat(**self.chat.attribute_values)
        chat.active_task = task.id
        chats.fill(chat, list(self.new))
        chat.next_n += 1  # the answer's
        transaction.put("chat", chat, Chat.id.does_not_exist())
        quota.add_in(transaction, chat.owner_id)
        if self.user:
            chats.record_use(transaction, self.user, preset)


def ask(
    caller: Bearer, wanted: NewQuestion, *, must_be_free: bool = True, known: Conversation | None = None
) -> Question:
    """Return the question of a request. With `known`, the conversation in which it goes on, no chat is read.

    Raises NotFound, Forbidden, or BadRequest (for the preset of a new chat) if the caller may not ask it. Raises TooLarge or
    Unprocessable for its messages, and Conflict if another task runs in the chat, unless `must_be_free` is false.
    """
    if wanted.regenerate is not None:
        return ask_again(caller, wanted.regenerate, wanted.chat_id, wanted.preset_id, wanted.model)
    if wanted.continues is not None:
        return _continue(caller, wanted.continues, wanted.chat_id)
    if chats.measure(wanted.messages) > MESSAGES_BYTES:
        raise TooLarge(
            "append_first",
            Detail("Add messages of more than {most} bytes to the chat first, then ask.", most=MESSAGES_BYTES),
        )
    if wanted.chat is not None:
        return _open_chat(caller, wanted.chat, wanted.messages)
    chat = known.chat if known else chat_access.get_owned(caller.id, wanted.chat_id or "", Forbidden())
    if must_be_free and wanted.kind != Task.TITLE:
        _require_free(chat, caller)
    if wanted.branch_at is not None:
        return _branch_off(caller, chat, wanted.branch_at, wanted.messages)
    attachments = Attachments.read(caller.id, chat.id, wanted.messages)
    new = messages.new_items(chat.shown_thread, int(chat.next_n), wanted.messages, clock.timestamp(), attachments)
    return Question(chat, wanted.kind, new, attachments=attachments, known=known.turns if known else None)


def ask_again(
    caller: Bearer, task_id: str, chat_id: str | None = None, preset_id: str | None = None, model: str | None = None
) -> Question:
    """Return the question of a task once more, to replace its answer. Another preset or model may answer it.

    Raises NotFound if the caller has no such task (in this chat), and Conflict if its answer is not the chat's last message. Raises
    BadRequest or Forbidden for the preset.
    """
    task, chat, last = _find_last_answer(caller, task_id, chat_id)
    if last is None:
        raise Conflict("not_last_answer", "Only the chat's last answer can be made again.")
    preset, user = _get_preset(caller, preset_id) if preset_id else (None, None)
    return Question(
        chat, task.type, replaces=int(last.n), visibility=last.visibility, answering=preset, user=user, model=model
    )


def _continue(caller: Bearer, task_id: str, chat_id: str | None) -> Question:
    """Return the question for the rest of an answer that was cut off."""
    task, chat, last = _find_last_answer(caller, task_id, chat_id)
    if last is None or last.finish_reason not in CUT_OFF or not last.content:
        raise Conflict(
            "not_cut_off", "Only the chat's last answer can be continued, if it was cut off within its text."
        )
    if len(f"{last.reasoning or ''}{last.content}".encode()) > CONTINUED_BYTES:
        raise TooLarge(
            "answer_too_long",
            Detail("An answer of more than {bytes} bytes cannot be continued.", bytes=CONTINUED_BYTES),
        )
    return Question(chat, task.type, replaces=int(last.n), visibility=last.visibility, continued=last)


def _branch_off(caller: Bearer, chat: Chat, n: int, new: Sequence[NewMessage]) -> Question:
    _, previous = messages.get_with_previous(chat.path, n)
    tree = chat.tree
    if not tree.has_room(previous):
        raise Conflict(
            "too_many_branches",
            Detail(
                "A message has at most {siblings} siblings, a path {path} branches, and a chat {branches}. You can copy it.",
                siblings=SIBLINGS,
                path=SEGMENTS,
                branches=BRANCHES,
            ),
        )
    fork = Fork(new_id()[-12:], n, previous)
    tree.fork(fork.id, previous, 0, 0, 0)
    attachments = Attachments.read(caller.id, chat.id, new)
    stored = messages.new_items(tree.path[-1].thread, n, new, clock.timestamp(), attachments)
    return Question(chat, "chat_generation", stored, attachments=attachments, fork=fork)


def _find_last_answer(caller: Bearer, task_id: str, chat_id: str | None) -> tuple[Task, Chat, Message | None]:
    """Return a task, its chat, and its answer if that is the chat's last message."""
    task = control.get_owned(caller, task_id)
    if task.chat_id is None or chat_id not in (None, task.chat_id):
        raise NotFound("task_not_found", "There is no such task in this chat.")
    chat = chat_access.get_owned(caller.id, task.chat_id, Forbidden())
    _require_free(chat, caller)
    last = prompts.read_last(chat.path)
    # If the user has rewritten the answer since, it is an ordinary message without a task_id, and stays.
    if last is not None and last.task_id and task.type != Task.TITLE:
        mine = (last.n, last.task_id) == (task.answer_n, task.id)
        # The same n in another branch is another message. A replacement moves the messages of the main branch.
        here = last.thread in (task.thread, None if chat.has_thread(task.thread) else chat.thread)
        if mine or (here and last.n == task.replaces):  # a failed task: the answer that it was to replace
            return task, chat, last
    return task, chat, None


def ask_title(caller: Bearer, chat_id: str) -> Question:
    """Return the question for the title of the caller's chat with `auto_title`.

    Raises NotFound, and Conflict if the chat does not wait for a title any more.
    """
    chat = chat_access.get_owned(caller.id, chat_id, Forbidden())
    if not chat_titles.awaits_title(chat):
        raise Conflict("title_not_wanted", "This chat does not wait for a title.")
    return Question(chat, Task.TITLE, unasked=True)


def _open_chat(caller: Bearer, wanted: OpenedChat, new: Sequence[NewMessage]) -> Question:
    preset, user = _get_preset(caller, wanted.preset_id)
    now = clock.timestamp()
    chat = chats.new_chat(caller.id, preset, wanted, new, now)
    attachments = Attachments.read(caller.id, chat.id, new, is_new=True)
    stored = messages.new_items(chat.thread, 1, new, now, attachments)
    return Question(chat, "chat_generation", stored, opens=preset, user=user, attachments=attachments)


def _get_preset(caller: Bearer, preset_id: str) -> tuple[Preset, User | None]:
    """Return the head of a preset that the caller may use. The user is read only if that decides it."""
    head = lookup.find(Preset, preset_id, Preset.HEAD)
    if head is not None and presets.is_open_to(head, caller.id):
        return head, None
    user = caller.read()
    return chats.get_usable_preset(user, preset_id), user


def _require_free(chat: Chat, user: Bearer) -> None:
    if chat.active_task:
        running = Task.get(chat.active_task, consistent_read=True)
        raise Conflict(
            "task_running",
            "Another task is answering in this chat. Wait for its end, or stop it.",
            task_id=running.id,
            stream_url=control.stream_url(running, user),
            resume_url=control.resume_url(running, user),
        )
