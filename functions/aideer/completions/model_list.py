"""The models that a caller may ask: those of the price table, and presets as `preset-` and their id."""

import json
from typing import Any, cast

from aideer.billing import pricing
from aideer.billing.pricing import Tariff
from aideer.chats import presets
from aideer.completions.callers import Caller
from aideer.core import clock
from aideer.core.errors import NotFound
from aideer.data import lookup
from aideer.data.models import Preset, User
from aideer.security import budgets
from aideer.security.api_keys import PRESET_PREFIX

PUBLIC = 100
"""The most public presets in the list, the newest first."""
_LISTED_BYTES = 200
"""The bytes of one model in a list, for the reading budget."""
_CREATED = 1_700_000_000
"""Clients require a time of each model. The provider tells none."""


def list_all(caller: Caller, user: User) -> list[dict[str, Any]]:
    """Return all models that this caller may ask: models, the user's own presets, and public ones.

    Raises TooManyRequests if the user has used up the reading budget.
    """
    budgets.require(user.id)
    own = sorted(Preset.by_owner.query(user.id), key=lambda head: head.create_time, reverse=True)
    public = Preset.by_create_time.query("public", scan_index_forward=False, limit=PUBLIC)
    heads = {head.id: head for head in (*own, *public)}
    models = [_model(entry) for entry in pricing.get_table()["models"] if not pricing.is_retired(cast(Tariff, entry))]
    listed = [*models, *(_preset(head) for head in heads.values())]
    budgets.charge(user.id, len(listed) * _LISTED_BYTES)  # also those that this key may not ask
    return [each for each in listed if caller.allows(each["id"])]


def get(caller: Caller, model: str) -> dict[str, Any]:
    """Return one model. Raises NotFound if the caller may not ask it, and TooManyRequests as `list_all` does."""
    if caller.allows(model):
        if model.startswith(PRESET_PREFIX):
            budgets.require(caller.user_id)
            head = lookup.find(Preset, model.removeprefix(PRESET_PREFIX), Preset.HEAD)
            if head is not None:
                budgets.charge(caller.user_id, len(json.dumps(head.messages, ensure_ascii=False).encode()))
            if head is not None and presets.is_open_to(head, caller.user_id):
                return _preset(head)
        elif (tariff := pricing.get_tariff(model)) and not pricing.is_retired(tariff):
            return _model(cast(dict[str, Any], tariff))
    raise NotFound("model_not_found", "There is no such model, or you may not use it. GET /v1/models lists the models.")


def _model(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": entry["model"],
        "object": "model",
        "created": _CREATED,
        "owned_by": "aideer",
        "context_length": entry["context"],
    }


def _preset(head: Preset) -> dict[str, Any]:
    return {
        "id": f"{PRESET_PREFIX}{head.id}",
        "object": "model",
        "created": int(clock.parse(head.create_time)),
        "owned_by": "aideer",
        "name": head.title,
    }
