"""The first public preset of a new deployment. With it, a first user can open a chat at once.

The preset and the configuration that names it as the default are one transaction, on the condition that there is no configuration
yet. So it is made once, by one of any number of calls, and an administrator that deletes it never gets it back.
"""

from itertools import islice
from typing import Any

from aideer.billing import pricing
from aideer.chats import configuration, presets
from aideer.chats.configuration import Configuration
from aideer.core import clock
from aideer.core.errors import AideerError, Conflict
from aideer.core.logs import logger
from aideer.data.models import Preset, Record, User
from aideer.data.transactions import Transaction
from aideer.schemas.presets import NewPreset

MODELS = ("qwen-plus", "qwen-flash", "qwen-turbo")
"""The preset has the first of these models that the price table offers, and otherwise the table's first text model."""
_CONTENT: dict[str, Any] = {
    "title": "AIDeer",
    "description": "A helpful assistant · 通用助手",
    "visibility": "public",
    "messages": [
        {
            "role": "system",
            "content": "You are a helpful assistant. Answer in the language of the question.",
            "visibility": False,
        }
    ],
}


def provide(admin: User) -> str | None:
    """Make the first public preset, and return its id.

    Return None if there is a configuration or a public preset already, or if the price table offers no model.
    """
    if configuration.read() != Configuration() or _exists():
        return None
    model = _choose_model()
    if model is None:
        return None
    try:
        return _make(admin, model)
    except Conflict:  # another call was faster
        return None
    except AideerError as error:  # the administrator is made all the same, and can make presets
        logger.warning("first_preset", extra={"error": type(error).__name__, "code": error.code})
        return None


def _make(admin: User, model: str) -> str:
    new = NewPreset.model_validate({**_CONTENT, "parameters": {"model": model}})
    return presets.create(admin, new, beside=_configure_in).id


def _configure_in(transaction: Transaction, head: Preset) -> None:
    record = Configuration(1, head.id, None, clock.timestamp()).to_record()
    transaction.put("configuration", record)
    transaction.check("configuration", record, Record.pk.does_not_exist(), _already_configured)


def _exists() -> bool:
    return any(islice(Preset.by_create_time.query("public", limit=1), 1))


def _choose_model() -> str | None:
    offered = [entry["model"] for entry in pricing.publish()["models"] if entry["status"] == "available"]
    preferred = [model for model in MODELS if model in offered]
    return next(iter([*preferred, *offered]), None)


def _already_configured() -> AideerError | None:
    if configuration.read() == Configuration():
        return None
    return Conflict("already_configured", "There is a configuration already.")
