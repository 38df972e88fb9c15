"""API keys of tests, and completions as credits.py sees them: tasks by a key, without a chat."""

from aideer.accounts import api_keys
from aideer.billing import credits, pricing
from aideer.core import clock, settings
from aideer.data.base import new_id
from aideer.data.models import Record, Task, User
from aideer.data.transactions import Transaction
from aideer.schemas.api_keys import NewApiKey, NewApiKeyResponse
from aideer.security import api_keys as stored_keys
from aideer.security.api_keys import ApiKey
from aideer.tasks import leases
from tests.support import Person


def holder(person: Person) -> User:
    """The user as a call by their newest session has it."""
    user = person.user
    user.session_id = next(iter(user.sessions or ()), None)
    return user


def make_key(person: Person, **new: object) -> NewApiKeyResponse:
    """A new key of this user."""
    return api_keys.create(holder(person), NewApiKey.model_validate({"name": "Laptop", **new}))


def new_task(user_id: str, hold: int, key: ApiKey | None) -> Task:
    """A running task without a chat, with this hold."""
    task_id = new_id()
    tariff = pricing.get_tariff("qwen-plus")
    assert tariff
    return Task(
        task_id,
        user_id=user_id,
        type=Task.API,
        key={"id": key.id, "hash": key.hash} if key else None,
        status="running",
        executor=leases.new_executor(),
        lease_until=clock.now() + settings.LEASE_SECONDS,
        streamed=True,
        hold=hold,
        model="qwen-plus",
        tariff=pricing.freeze(tariff, None),
        parameters={},
        max_tokens=100,
        input_tokens=20,
        open_shard=leases.shard_of(task_id),
        create_time=clock.timestamp(),
    )


def complete(key: ApiKey, hold: int) -> Task:
    """A completion that this key has begun. Raises Refused."""
    task = new_task(key.user_id, hold, key)
    credits.hold(Transaction(), task, None, key)
    return task


def find_room(hashed: str) -> int | None:
    """The room of a key as stored, also of a revoked one. None if it is gone."""
    found = list(Record.query(stored_keys.record_key(hashed)[0], consistent_read=True))
    return int(found[0].room) if found else None
