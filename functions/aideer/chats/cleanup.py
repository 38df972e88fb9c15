"""The removal of threads that no chat points to, and of presets' versions that no chat pins. These are workers of jobs (jobs.py).

A version of a preset is removed if two looks, a day apart, find no chat that pins it. One look is not enough, because the index of
pins lags. After it was superseded, a version gets a new pin only from a chat that is copied. The second look sees that copy.
"""

from typing import Any

from aideer.chats import messages
from aideer.core import clock
from aideer.data import jobs, lookup
from aideer.data.models import Chat, Preset
from aideer.uploads import references

BETWEEN_LOOKS_SECONDS = 86400
PINNED_SECONDS = 7 * 86400
"""When a version that a chat pins is looked at again."""


def remove_generation(data: dict[str, Any], deadline: float) -> bool:
    """Remove the thread that was replaced or, if the replacement broke off, the new thread."""
    # A job of an earlier release names both threads. The one that the chat points to is kept.
    generations = [data["generation"]] if "generation" in data else [data["old"], data["new"]]
    chat = lookup.find(Chat, data["chat_id"])
    current = chat.generation if chat else None
    return all(_remove_thread(data, generation, deadline) for generation in generations if generation != current)


def remove_copy(data: dict[str, Any], deadline: float) -> bool:
    """Remove the thread of a copy whose chat was never created, and its uses of images.

    If the chat was created, the thread belongs to it and to its other jobs.
    """
    if lookup.find(Chat, data["chat_id"]) is not None:
        return True
    return _remove_thread(data, data["generation"], deadline) and references.remove(data["chat_id"], deadline)


def remove_preset_version(data: dict[str, Any], _: float) -> bool:
    """Look for chats that pin a superseded version of a preset, and remove it if there are none, as for BETWEEN_LOOKS_SECONDS.

    Otherwise another job takes the next look.
    """
    preset_id, number = data["preset_id"], int(data["version"])
    head = lookup.find(Preset, preset_id, Preset.HEAD, ["number"])
    if (head and head.number == number) or lookup.find(Preset, preset_id, number, ["version"]) is None:
        return True  # it is the current one, or gone with its owner
    now = int(clock.now())
    unpinned_since = int(data.get("unpinned_since", now))
    if next(iter(Chat.by_preset.query(preset_id, Chat.preset_version == number, limit=1)), None) is not None:
        _look_again(PINNED_SECONDS, preset_id, number)
    elif now - unpinned_since < BETWEEN_LOOKS_SECONDS:
        _look_again(BETWEEN_LOOKS_SECONDS, preset_id, number, unpinned_since=str(now))
    else:
        Preset(preset_id, number).delete()
    return True


def _look_again(seconds: float, preset_id: str, number: int, **more: str) -> None:
    name = f"{preset_id}#{number}"
    jobs.create_once("preset_version", seconds, name, preset_id=preset_id, version=str(number), **more)


def _remove_thread(data: dict[str, Any], generation: str, deadline: float) -> bool:
    return messages.delete(f"{data['chat_id']}#{generation}", deadline)
