"""The removal of threads that no chat points to. These are workers of jobs (jobs.py)."""

from typing import Any

from aideer.chats import messages
from aideer.data import lookup
from aideer.data.models import Chat


def remove_generation(data: dict[str, Any], deadline: float) -> bool:
    """Remove the thread that was replaced or, if the replacement broke off, the new thread."""
    # A job of an earlier release names both threads. The one that the chat points to is kept.
    generations = [data["generation"]] if "generation" in data else [data["old"], data["new"]]
    chat = lookup.find(Chat, data["chat_id"])
    current = chat.generation if chat else None
    return all(_remove_thread(data, generation, deadline) for generation in generations if generation != current)


def remove_copy(data: dict[str, Any], deadline: float) -> bool:
    """Remove the thread of a copy whose chat was never created.

    If the chat was created, the thread belongs to it and to its other jobs.
    """
    return lookup.find(Chat, data["chat_id"]) is not None or _remove_thread(data, data["generation"], deadline)


def _remove_thread(data: dict[str, Any], generation: str, deadline: float) -> bool:
    return messages.delete(f"{data['chat_id']}#{generation}", deadline)
