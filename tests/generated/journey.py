"""The main journey, with nothing but the generated client. Every answer must be of the type that the document promises."""

import base64
import io
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar
from uuid import uuid4

from aideer_client import AuthenticatedClient, Client, models
from aideer_client.api.avatars import users_avatar_me, users_avatar_set
from aideer_client.api.chats import chats_append, chats_copy, chats_create, chats_export, chats_get, chats_list
from aideer_client.api.codes import codes_create
from aideer_client.api.credits_ import users_credits, users_redeem
from aideer_client.api.health import health_get
from aideer_client.api.likes import users_like_preset, users_likes
from aideer_client.api.presets import presets_create, presets_get
from aideer_client.api.prices import prices_list
from aideer_client.api.session import session_create, session_delete, session_refresh
from aideer_client.api.tasks import tasks_create, tasks_get, tasks_quote, tasks_regenerate, tasks_stream
from aideer_client.api.users import users_create, users_me, users_update
from aideer_client.types import File

T = TypeVar("T")
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
_calls: list[str] = []


def call(operation: ModuleType, kind: type[T], client: Any, *path: Any, status: int = 200, **sent: Any) -> T:
    """What an operation answers, which is of this type."""
    answer = operation.sync_detailed(*path, client=client, **sent)
    assert answer.status_code == status, (operation.__name__, answer)
    assert isinstance(answer.parsed, kind), (operation.__name__, answer.parsed)
    _calls.append(operation.__name__.rpartition(".")[2])
    return answer.parsed


def signed_in(url: str, name: str, password: str) -> tuple[AuthenticatedClient, models.TokensResponse]:
    """A client with somebody's access token."""
    grant = models.SessionCreateFormGrantType.PASSWORD
    form = models.SessionCreateForm(grant_type=grant, username=name, password=password)
    tokens = call(session_create, models.TokensResponse, Client(url), body=form)
    return AuthenticatedClient(url, tokens.access_token), tokens


def until(condition: Callable[[], T | None]) -> T:
    """Ask again and again; what it is in the end."""
    give_up_at = time.monotonic() + 120
    while time.monotonic() < give_up_at:
        if (found := condition()) is not None:
            return found
        time.sleep(0.2)
    raise AssertionError("It takes too long.")


def journey(url: str, admin_name: str, admin_password: str) -> None:
    """Sign up, ask, watch, pay, and leave."""
    anyone = Client(url)
    assert call(health_get, models.HealthResponse, anyone).status == "ok"
    assert "qwen-plus" in [price.model for price in call(prices_list, models.PricesResponse, anyone).models]

    name = f"client{uuid4().hex[:8]}"
    user = call(users_create, models.UserResponse, anyone, body=models.NewUser(username=name, password="secret-123"))
    taken = models.NewUser(username=name, password="secret-123")
    assert call(users_create, models.Error, anyone, body=taken, status=400).code == "username_taken"
    invalid = models.NewUser(username=name, password="?")
    assert call(users_create, models.InvalidRequest, anyone, body=invalid, status=422).detail[0].loc[-1] == "password"
    me, tokens = signed_in(url, name, "secret-123")
    assert call(users_me, models.UserResponse, me).id == user.id
    assert (
        call(users_update, models.UserResponse, me, user.id, body=models.UserChange(nickname="Deer")).nickname == "Deer"
    )

    form = models.UsersAvatarSetForm(avatar_file=File(io.BytesIO(PICTURE), "a.png", "image/png"))
    assert call(users_avatar_set, models.UserResponse, me, body=form).avatar
    assert call(users_avatar_me, File, me).payload.read(2) == b"\xff\xd8"

    prompt = models.PresetMessageInput(
        role=models.PresetMessageInputRole.SYSTEM, content="You are a deer.", visibility=False
    )
    wanted = models.NewPreset("Deer", models.ParametersInput("qwen-plus", temperature=0.5), messages=[prompt])
    preset = call(presets_create, models.PresetResponse, me, body=wanted)
    assert call(presets_get, models.PresetResponse, me, preset.id).parameters.temperature == 0.5
    call(users_like_preset, models.DoneResponse, me, preset.id)
    assert call(users_likes, models.LikesResponse, me).preset_ids == [preset.id]

    question = models.NewMessage(models.NewMessageRole.USER, "Who are you?")
    chat = call(chats_create, models.ChatResponse, me, body=models.NewChat(preset.id, "Hello", messages=[question]))
    quote = call(tasks_quote, models.QuoteResponse, me, body=models.NewTask(chat.id))
    assert quote.affordable
    task = call(tasks_create, models.AcceptedTaskResponse, me, body=models.NewTask(chat.id, stream=False))
    assert 0 < task.credits_held <= quote.credits_at_most

    def ended() -> models.TaskResponse | None:
        view = call(tasks_get, models.TaskResponse, me, task.task_id)
        return view if view.status == models.TaskResponseStatus.FINISHED else None

    answer = until(ended)
    assert answer.content
    assert answer.content in call(tasks_stream, str, me, task.task_id, after="0")
    assert call(chats_get, models.ChatResponse, me, chat.id).messages[-1].content == answer.content
    assert [listed.id for listed in call(chats_list, list, me)] == [chat.id]

    ledger = call(users_credits, models.LedgerResponse, me)
    assert ledger.credit_records[0].amount == -answer.credits_
    admin, _ = signed_in(url, admin_name, admin_password)
    code = call(codes_create, models.RedeemCodeResponse, admin, body=models.NewCode(500))
    redemption = models.NewRedemption(code.redeem_code)
    assert call(users_redeem, models.RedemptionResponse, me, body=redemption).credits_left == ledger.credits_left + 500
    assert call(users_redeem, models.Error, me, body=redemption, status=422).code == "code_already_redeemed"
    assert call(codes_create, models.Error, me, body=models.NewCode(500), status=403).code == "not_admin"

    call(tasks_regenerate, models.AcceptedTaskResponse, me, task.task_id)
    until(lambda: None if call(chats_get, models.ChatResponse, me, chat.id).active_task else True)
    more = models.NewMessages([models.NewMessage(models.NewMessageRole.USER, "Are you shy?")])
    assert call(chats_append, list, me, chat.id, body=more)[0].content == "Are you shy?"
    copy = call(chats_copy, models.ChatResponse, me, chat.id)
    assert [message.content for message in copy.messages][::2] == ["Who are you?", "Are you shy?"]
    assert call(chats_export, models.ChatResponse, me, copy.id).title == "Hello"

    again = AuthenticatedClient(url, tokens.refresh_token)
    # null is no ticket: the generator cannot leave out a body that may be null.
    me = AuthenticatedClient(url, call(session_refresh, models.TokensResponse, again, body=None).access_token)
    call(session_delete, models.DoneResponse, me)
    assert call(users_me, models.Error, me, status=401).code == "token_revoked"


if __name__ == "__main__":
    journey(*sys.argv[1:])
    print(f"{len(_calls)} calls of {len(set(_calls))} operations by a generated client, all as documented")
