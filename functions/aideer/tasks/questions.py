"""Questions: the messages that a task answers, and the place of its answer in a chat.

A question stands in a stored chat, opens a new one, or asks again for the chat's last answer. It may bring messages, which are
stored in the transaction that accepts the task. So an accepted question has its messages, and a refused one has left nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pynamodb.expressions.update import Action

from aideer.chats import chat_access, chats, messages, presets, quota
from aideer.core import characters, clock
from aideer.core.errors import Conflict, Forbidden, NotFound, TooLarge
from aideer.data import lookup
from aideer.data.models import Chat, Message, Preset, Task, User
from aideer.data.transactions import Transaction
from aideer.prompts import prompts
from aideer.schemas.chats import NewMessage
from aideer.schemas.questions import MESSAGES_BYTES, NewQuestion, OpenedChat
from aideer.security.auth import Bearer
from aideer.tasks import control

UNTITLED = "New chat"
"""The title of a chat whose first message has no text that could be one."""


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

    @property
    def end(self) -> int:
        """The number that the prompt ends before."""
        return int(self.replaces or self.chat.next_n) + len(self.new)

    @property
    def answer_n(self) -> int:
        """The number of the answer's message."""
        return int(self.chat.next_n) + len(self.new)

    @property
    def chat_version(self) -> int:
        """The chat's version once the task is accepted. A title's task does not change the chat."""
        return int(self.chat.version) + (self.opens is None and self.type != Task.TITLE)

    def put_in(self, transaction: Transaction, task: Task) -> None:
        """Store the new messages, and make the task the chat's active task. A title's task is not made active.

        The transaction is refused with the step "chat" if the chat is deleted, has changed, or has another active task.
        """
        if self.type == Task.TITLE:
            transaction.check("chat", Chat(self.chat.id), Chat.id.exists() & Chat.deleted.does_not_exist())
            return
        if self.opens:
            self._open_chat(transaction, self.opens, task)
        else:
            actions: list[Action] = [
                Chat.active_task.set(task.id),
                Chat.next_n.set(self.answer_n + 1),
                Chat.version.add(1),
                *chats.growth(list(self.new)),
            ]
            condition = Chat.deleted.does_not_exist() & Chat.active_task.does_not_exist()
            transaction.update("chat", Chat(self.chat.id), actions, condition & (Chat.version == self.chat.version))
        chats.put_in(transaction, list(self.new))

    def _open_chat(self, transaction: Transaction, preset: Preset, task: Task) -> None:
        chat = Chat(**self.chat.attribute_values)
        chat.active_task = task.id
        chats.fill(chat, list(self.new))
        chat.next_n += 1  # the answer's
        transaction.put("chat", chat, Chat.id.does_not_exist())
        quota.add_in(transaction, chat.owner_id)
        if self.user:
            chats.record_use(transaction, self.user, preset)


def ask(caller: Bearer, wanted: NewQuestion, *, must_be_free: bool = True) -> Question:
    """Return the question of a request.

    Raises NotFound, Forbidden, or BadRequest (for the preset of a new chat) if the caller may not ask it. Raises TooLarge or
    Unprocessable for its messages, and Conflict if another task runs in the chat, unless `must_be_free` is false.
    """
    if wanted.regenerate is not None:
        return ask_again(caller, wanted.regenerate, wanted.chat_id)
    if sum(len(message.content.encode()) for message in wanted.messages) > MESSAGES_BYTES:
        raise TooLarge("append_first", f"Add messages of more than {MESSAGES_BYTES} bytes to the chat first, then ask.")
    if wanted.chat is not None:
        return _open_chat(caller, wanted.chat, wanted.messages)
    chat = _get_chat(caller, wanted.chat_id or "")
    if must_be_free and wanted.kind != Task.TITLE:
        _require_free(chat, caller)
    new = messages.new_items(chat.thread, int(chat.next_n), wanted.messages, clock.timestamp())
    return Question(chat, wanted.kind, new)


def ask_again(caller: Bearer, task_id: str, chat_id: str | None = None) -> Question:
    """Return the question of a task once more, to replace its answer.

    Raises NotFound if the caller has no such task (in this chat), and Conflict if its answer is not the chat's last message.
    """
    task = control.get_owned(caller, task_id)
    if chat_id not in (None, task.chat_id):
        raise NotFound("task_not_found", "There is no such task in this chat.")
    chat = _get_chat(caller, task.chat_id)
    _require_free(chat, caller)
    last = prompts.read_last(chat.thread)
    # If the user has rewritten the answer since, it is an ordinary message without a task_id, and stays.
    if last is not None and last.task_id and task.type != Task.TITLE:
        mine = (last.n, last.task_id) == (task.answer_n, task.id)
        if mine or last.n == task.replaces:  # a failed task: the answer that it was to replace
            return Question(chat, task.type, replaces=int(last.n), visibility=last.visibility)
    raise Conflict("not_last_answer", "Only the chat's last answer can be made again.")


def _open_chat(caller: Bearer, wanted: OpenedChat, new: Sequence[NewMessage]) -> Question:
    preset, user = _get_preset(caller, wanted.preset_id)
    now = clock.timestamp()
    chat = chats.new_chat(caller.id, preset, wanted.title or _make_title(new), wanted.visibility, now)
    return Question(chat, "chat_generation", messages.new_items(chat.thread, 1, new, now), opens=preset, user=user)


def _get_preset(caller: Bearer, preset_id: str) -> tuple[Preset, User | None]:
    """Return the head of a preset that the caller may use. The user is read only if that decides it."""
    head = lookup.find(Preset, preset_id, Preset.HEAD)
    if head is not None and presets.is_open_to(head, caller.id):
        return head, None
    user = caller.read()
    return chats.get_usable_preset(user, preset_id), user


def _make_title(new: Sequence[NewMessage]) -> str:
    """Return the beginning of the first message of the user."""
    asked = (message.content for message in new if message.role == "user" and message.type == "text")
    return characters.one_line(next(asked, ""), characters.TITLE_CHARACTERS) or UNTITLED


def _get_chat(user: Bearer | User, chat_id: str) -> Chat:
    chat = lookup.find(Chat, chat_id)
    if chat is None or chat.deleted:
        raise chat_access.not_found()
    if chat.owner_id != user.id:
        raise Forbidden
    return chat


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
