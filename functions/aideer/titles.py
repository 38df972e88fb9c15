"""Titles of chats, made by the chat's own model from what was said in it.

A title task touches no message, next_n or active_task. Its prompt has none of the preset's messages and no hidden one: what a
title says, everybody may see to whom the chat is shown.
"""

import contextlib

from aideer import characters, prompts
from aideer.errors import TooLarge
from aideer.prompts import Prompt

TYPE = "title_generation"
CHARACTERS = 50
PARAMETERS = {"max_tokens": 64, "temperature": 0.3}
_EXCERPT_CHARACTERS = 1000
_MESSAGES = 6
_READS = 4
"""Queries (1 MB each) at most: a quote is free, and a chat may hold any number of hidden messages."""
_INSTRUCTION = (
    "Give the conversation below a title: at most eight words, in the language of the conversation, without quotation "
    "marks and without a full stop. Answer with the title alone."
)
_MARKS = " \t\"'“”‘’「」『』《》*#.。"


def prompt(thread: str, end: int) -> Prompt:
    """What the model is asked; no messages where the chat has none among its last."""
    said = []
    with contextlib.suppress(TooLarge):  # what is further back is not what a title is about
        for message in prompts.newest_first(thread, end, _READS):
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


def clean(answer: str) -> str:
    """Return the title in a model's answer: its first line with text, without marks around it; "" where there is none.

    The result is a title that a user could have given, or "".
    """
    for line in characters.without_thought(answer).splitlines():
        whole = characters.one_line(line, len(line)).strip(_MARKS)
        if title := characters.one_line(whole[:CHARACTERS].strip(_MARKS), CHARACTERS):
            return title
    return ""
