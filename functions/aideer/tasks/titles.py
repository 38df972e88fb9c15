"""Titles of chats. The chat's own model makes them from the chat's messages.

A title task changes no message, next_n or active_task. Its prompt has no message of the preset and no hidden one, because every
reader of the chat sees its title.
"""

import contextlib

from aideer.core.errors import TooLarge
from aideer.data.branches import Path
from aideer.prompts import prompts
from aideer.prompts.prompts import Prompt

PARAMETERS = {"max_tokens": 64, "temperature": 0.3}
_EXCERPT_CHARACTERS = 1000
_MESSAGES = 6
_READS = 4
"""The most queries (1 MB each) for a prompt. A quote is free, and a chat may hold any number of hidden messages."""
_INSTRUCTION = (
    "Give the conversation below a title: at most eight words, in the language of the conversation, without quotation "
    "marks and without a full stop. Answer with the title alone."
)


def build_prompt(path: Path, end: int) -> Prompt:
    """Return the prompt for a title. It has no messages if no visible one is among the chat's last messages."""
    said = []
    with contextlib.suppress(TooLarge):  # a title does not need older messages
        for message in prompts.newest_first(path, end, _READS):
            if message.visibility:
                excerpt = "[image]" if message.type == "image" else message.content[:_EXCERPT_CHARACTERS]
                said.append(f"{message.role}: {excerpt}")
            if len(said) == _MESSAGES:
                break
    if not said:
        return Prompt([], asks=False)
    conversation = "\n\n".join(reversed(said))
    return Prompt(
        [{"role": "system", "content": _INSTRUCTION}, {"role": "user", "content": conversation}],
        asks=True,
    )
