"""Questions of the AI SDK's clients: a new message, an edited one, or the same question once more, in the chat that they mean.

The client names its chat and its messages. client_ids.py keeps what these ids stand for. A client may also name a chat by its own
id, an answer by the id of its task, and another message by its n, as `GET /chats/{id}` shows them.

- A new message goes to the end of the chat. If the id of the chat is unknown, the message opens the chat.
- A message that was accepted before, and says the same, is answered by the same task.
- An edited message begins a branch at the place of the old one, as `branch_at` of POST /tasks/stream does.
- To regenerate the last answer replaces it. To regenerate an earlier one asks its question once more, in a branch.

A message that was refused is not stored. If its client edits it, it is sent for the first time.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from aideer.ai_sdk import requests
from aideer.ai_sdk.requests import Said, UIChatRequest
from aideer.billing import model_limits
from aideer.chats import chat_access, client_ids, configuration, messages
from aideer.chats.client_ids import SentMessage
from aideer.core.errors import AideerError, BadRequest, Busy, Forbidden, InvalidToken, NotFound, Unprocessable
from aideer.data import lookup
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Chat, Message
from aideer.data.transactions import Transaction
from aideer.prompts import prompts
from aideer.schemas.chats import NewMessage
from aideer.schemas.questions import NewQuestion, OpenedChat
from aideer.security import exhausted
from aideer.security.auth import Bearer
from aideer.tasks import admission
from aideer.tasks.admission import Accepted
from aideer.tasks.ask_limit import AskCount
from aideer.tasks.questions import Question
from aideer.uploads import inline_images
from aideer.uploads.inline_images import InlineImage

ROUTE = "POST /ui/chat"
_TRIES = 4
_N_DIGITS = 15
_CHAT_NOT_FOUND = "chat_not_found"


class _ChatChangedError(Exception):
    """Another request has opened the chat, or has sent the same message. So this one has to look again."""


class MessageRequest(IdempotentRequest):
    """A message as its repetitions are found: by the ids that the client gave it and its chat.

    Without `chat_id`, the request opens the chat. `former` is what was noted of the message before. With `wish`, the message is
    asked again although it says the same, but once for the key of that request.
    """

    def __init__(
        self,
        user_id: str,
        client_chat_id: str,
        chat_id: str | None,
        said: Said,
        former: SentMessage | None = None,
        wish: IdempotentRequest | None = None,
    ) -> None:
        super().__init__(user_id, ROUTE, None, "")
        self._user_id, self._client_chat_id, self._chat_id = user_id, client_chat_id, chat_id
        self._said, self._former, self._wish = said, former, wish

    def find_answer(self) -> dict[str, Any] | None:
        """Return the answer of the request that brought this message, or None if there was none.

        Raises Unprocessable if the message said something else then and this is no edit. Raises _ChatChangedError if the chat was
        opened meanwhile without this message, or if the message was sent again meanwhile.
        """
        if self._wish and (answer := self._wish.find_answer()):
            return answer
        chat_id = self._chat_id
        if chat_id is None:
            client_ids.forget_chat(self._user_id, self._client_chat_id)
            chat_id = client_ids.find_chat(self._user_id, self._client_chat_id)
            if chat_id is None:
                return None
        sent = find_sent(self._user_id, self._client_chat_id, chat_id, self._said.id)
        if sent is None or (self._former and sent.version == self._former.version):
            if self._chat_id is None:
                raise _ChatChangedError
            return None
        if sent.digest == self._said.digest and not self._wish:
            return sent.answer
        if self._former or self._wish:
            raise _ChatChangedError
        raise Unprocessable(
            "message_id_reused", "This id came with another message before. To edit it, send messageId."
        )

    def store_in(self, transaction: Transaction, answer: dict[str, Any]) -> None:
        """Note the message, and the chat if the request opens it, in the transaction that accepts the question."""
        chat_id = str(answer["chat_id"])
        if self._chat_id is None:
            client_ids.name_chat_in(transaction, self._user_id, self._client_chat_id, chat_id)
        version = self._former.version + 1 if self._former else 1
        sent = SentMessage(self._said.digest, answer["messages"], answer, version)
        client_ids.name_message_in(transaction, chat_id, self._said.id, sent, self._former)
        if self._wish:
            self._wish.store_in(transaction, answer)


class Submission:
    """One request of a client, from its chat to the accepted task."""

    def __init__(self, caller: Bearer, wanted: UIChatRequest, key: str | None) -> None:
        self._caller = caller
        self._wanted = wanted
        self._key = key
        self._stored: list[NewMessage] | None = None
        self._counted = False
        """Whether the admission counts this ask, if it is refused."""

    def accept(self) -> Accepted:
        """Accept the question. Raises as `admission.begin` does, and as `requests.read_said` does.

        Raises NotFound for a chat that is not the caller's, was deleted, or lacks the message that is edited. Raises BadRequest if
        the chat is new and no preset is named.
        """
        try:
            return self._accept()
        except (Busy, InvalidToken):
            raise
        except AideerError as error:
            raise error if self._counted else refuse(self._caller, error) from None

    def _accept(self) -> Accepted:
        gone: set[str] = set()
        for _ in range(_TRIES):
            remembered = client_ids.recall_chat(self._caller.id, self._wanted.id)
            try:
                return self._accept_once()
            except _ChatChangedError:
                continue
            except Forbidden as error:
                raise _hide(error) from None
            except NotFound as error:
                # What this process remembers of the chat may be out of date: it was deleted, and its id may be free again.
                if error.code != _CHAT_NOT_FOUND or remembered is None or remembered in gone:
                    raise
                gone.add(remembered)
                client_ids.forget_chat(self._caller.id, self._wanted.id)
        raise Busy

    def _accept_once(self) -> Accepted:
        if self._wanted.trigger == "regenerate-message":
            return self._regenerate()
        said = requests.read_said(self._wanted)
        if self._wanted.messageId is not None:
            return self._edit(said, self._wanted.messageId)
        chat_id = client_ids.recall_chat(self._caller.id, self._wanted.id)
        # A client's first message most often opens its chat. If it does not, the transaction is refused.
        if chat_id is None and (len(self._wanted.messages) > 1 or client_ids.is_own_id(self._wanted.id)):
            chat_id = self._find_chat()
        return self._submit(said, chat_id)

    def _submit(self, said: Said, chat_id: str | None) -> Accepted:
        """Accept a message at the end of the chat. Without `chat_id`, it opens the chat."""
        request = MessageRequest(self._caller.id, self._wanted.id, chat_id, said)
        new = self._store_images(said, request)
        if isinstance(new, Accepted):
            return new
        if chat_id is None:
            return self._open(new, request)
        try:
            return self._begin(NewQuestion(chat_id=chat_id, messages=new), request)
        except NotFound as error:
            if error.code == _CHAT_NOT_FOUND and chat_id == self._wanted.id:
                # The client has made an id in the form of ours, and there is no chat of this id.
                request = MessageRequest(self._caller.id, self._wanted.id, None, said)
                return self._open(new, request)
            raise

    def _open(self, new: list[NewMessage], request: MessageRequest) -> Accepted:
        wanted = self._wanted
        preset_id = wanted.preset_id or configuration.read().default_preset
        if preset_id is None:
            self._caller.read()
            raise BadRequest("preset_required", "Send preset_id to open a chat. There is no default preset.")
        chat = OpenedChat(
            preset_id=preset_id, title=wanted.title, auto_title=wanted.auto_title, visibility=wanted.visibility
        )
        accepted = self._begin(NewQuestion(chat=chat, messages=new), request)
        client_ids.remember_chat(self._caller.id, wanted.id, str(accepted.task.chat_id))
        return accepted

    def _edit(self, said: Said, message_id: str) -> Accepted:
        """Accept a message in the place of an earlier one."""
        self._caller.read()
        said = Said(message_id, said.parts, said.digest)
        chat_id = self._find_chat()
        if chat_id is None:
            return self._submit(said, None)
        former = self._find_sent(chat_id, message_id)
        if former and former.digest == said.digest:
            return self._repeat(former.answer)
        n = _find_first_n(former, message_id)
        if n is None:
            self._require_end(chat_id)
            return self._submit(said, chat_id)
        return self._branch_off(said, chat_id, n, former)

    def _branch_off(
        self, said: Said, chat_id: str, n: int, former: SentMessage | None, wish: IdempotentRequest | None = None
    ) -> Accepted:
        request = MessageRequest(self._caller.id, self._wanted.id, chat_id, said, former, wish)
        new = self._store_images(said, request)
        if isinstance(new, Accepted):
            return new
        return self._begin(NewQuestion(chat_id=chat_id, branch_at=n, messages=new), request)

    def _require_end(self, chat_id: str) -> None:
        """Raise NotFound unless an unknown message stands behind the last stored one, because it was refused."""
        answer_id = requests.find_answer_before(self._wanted)
        last = prompts.read_last(self._get_chat(chat_id).path)
        if answer_id is None and last is None:
            return
        if answer_id is None or last is None or not _is_called(last, answer_id):
            raise NotFound("message_not_found", "This chat has no such message.")

    def _regenerate(self) -> Accepted:
        """Accept the question of an answer once more."""
        self._caller.read()
        wanted = self._wanted
        body = json.dumps([wanted.id, wanted.messageId, wanted.model, wanted.overrides], sort_keys=True)
        request = IdempotentRequest(self._caller.id, ROUTE, self._key, body)
        if answer := request.find_answer():
            return self._repeat(answer)
        chat_id = self._find_chat()
        if chat_id is None:
            raise chat_access.not_found()
        chat = self._get_chat(chat_id)
        last = prompts.read_last(chat.path)
        if last is None or self._means_last(chat, last):
            return self._begin(_ask_again(chat_id, last), request)
        said = requests.read_said(wanted)
        former = self._find_sent(chat_id, said.id)
        n = _find_first_n(former, said.id)
        if n is None:
            raise NotFound("message_not_found", "This chat has no such message.")
        return self._branch_off(said, chat_id, n, former, request)

    def _means_last(self, chat: Chat, last: Message) -> bool:
        """Return whether the client wants another answer to the chat's last question."""
        message_id = self._wanted.messageId
        if message_id is None or _is_called(last, message_id):
            return True
        question_id = requests.find_last_user_id(self._wanted)
        if question_id is None:
            return False
        sent = self._find_sent(chat.id, question_id)
        n = sent.numbers[-1] if sent and sent.numbers else _to_n(question_id)
        if n is None:
            return False
        previous = int(last.n) if last.role == "user" else messages.get_with_previous(chat.path, int(last.n))[1]
        return previous == n

    def _begin(self, question: NewQuestion, request: IdempotentRequest) -> Accepted:
        self._counted = True
        return admission.begin(self._caller, question, request, _adjuster(self._wanted))

    def _repeat(self, answer: dict[str, Any]) -> Accepted:
        """Return the answer of an earlier request. A repetition counts as a refused ask does."""
        AskCount(self._caller.id).refuse()
        return Accepted.from_record(answer)

    def _store_images(self, said: Said, request: MessageRequest) -> list[NewMessage] | Accepted:
        """Return the messages to store. The images among them are stored now, unless the message was accepted before."""
        if self._stored is None:
            if any(isinstance(part, InlineImage) for part in said.parts):
                self._caller.read()
                if answer := request.find_answer():
                    return self._repeat(answer)
            self._stored = [self._to_message(part) for part in said.parts]
        return self._stored

    def _to_message(self, part: NewMessage | InlineImage) -> NewMessage:
        if isinstance(part, NewMessage):
            return part
        return NewMessage(role="user", type="image", content=inline_images.store(self._caller.id, part))

    def _find_chat(self) -> str | None:
        return find_chat_id(self._caller.id, self._wanted.id)

    def _find_sent(self, chat_id: str, message_id: str) -> SentMessage | None:
        return find_sent(self._caller.id, self._wanted.id, chat_id, message_id)

    def _get_chat(self, chat_id: str) -> Chat:
        return chat_access.get_owned(self._caller.id, chat_id, Forbidden())


def require_room(caller: Bearer) -> None:
    """Raise TooManyRequests if this process knows that the user may not ask now. This makes no call."""
    exhausted.require_room("ask", caller.id)


def refuse(caller: Bearer, error: AideerError) -> AideerError:
    """Count a request that is refused before its admission. Return its error, or that of the limit if it is used up.

    Raises as `Bearer.read` does.
    """
    caller.read()
    return AskCount(caller.id).refuse() or error


def find_chat_id(user_id: str, client_id: str) -> str | None:
    """Return the id of the chat that a user's client names, or None. An id in the form of ours may name no chat of the user's."""
    found = client_ids.find_chat(user_id, client_id)
    return client_id if found is None and client_ids.is_own_id(client_id) else found


def find_sent(user_id: str, client_chat_id: str, chat_id: str, message_id: str) -> SentMessage | None:
    """Return what became of a client's message in a chat of this user's, or None.

    A client may name a chat by its own id, and that may be another user's: the id alone proves nothing.
    """
    if chat_id == client_chat_id:
        chat = lookup.find(Chat, chat_id, attributes=["id", "owner_id"])
        if chat is None or chat.owner_id != user_id:
            return None
    return client_ids.find_message(chat_id, message_id)


def find_active_task(user_id: str, client_id: str) -> str | None:
    """Return the id of the task that answers in a chat, or None if none does, or if the client has made an id for no chat yet.

    Raises NotFound for a chat that is not the user's or was deleted.
    """
    remembered = client_ids.recall_chat(user_id, client_id) is not None
    chat_id = find_chat_id(user_id, client_id)
    if chat_id is None:
        return None
    try:
        return chat_access.get_owned(user_id, chat_id, Forbidden()).active_task
    except Forbidden as error:
        raise _hide(error) from None
    except NotFound:
        client_ids.forget_chat(user_id, client_id)
        if not remembered:
            raise
    # What this process remembered is out of date. The id may be another chat's by now, and a client stops only once.
    return find_active_task(user_id, client_id)


def _hide(error: Forbidden) -> AideerError:
    """Return what a stranger learns of a chat: nothing. Other refusals stay."""
    return chat_access.not_found() if error.code == "forbidden" else error


def _ask_again(chat_id: str, last: Message | None) -> NewQuestion:
    """Return the question for another answer. A question whose answer failed without a text has none to replace."""
    if last is not None and last.role == "assistant" and last.task_id:
        return NewQuestion(regenerate=last.task_id, chat_id=chat_id, messages=[])
    return NewQuestion(chat_id=chat_id, messages=[])


def _adjuster(wanted: UIChatRequest) -> Callable[[Question], Question] | None:
    """Return what gives a question the model and the parameters of its request. It raises Unprocessable for a parameter."""
    model, parameters = wanted.model, wanted.overrides
    if not (model or parameters):
        return None

    def adjust(question: Question) -> Question:
        if parameters:
            preset = question.opens or prompts.get_preset(question.chat.preset_id, int(question.chat.preset_version))
            tariff = model_limits.require_available(model or preset.parameters["model"])
            model_limits.require_ranges(tariff, parameters)
        return dataclasses.replace(question, model=model, parameters=parameters)

    return adjust


def _find_first_n(sent: SentMessage | None, message_id: str) -> int | None:
    return int(sent.numbers[0]) if sent and sent.numbers else _to_n(message_id)


def _to_n(message_id: str) -> int | None:
    """Return the n that an id is, if the client has made its messages of `GET /chats/{id}`."""
    is_n = message_id.isascii() and message_id.isdigit() and len(message_id) <= _N_DIGITS and int(message_id) > 0
    return int(message_id) if is_n else None


def _is_called(message: Message, client_id: str) -> bool:
    return client_id in (message.task_id, str(int(message.n)))
