"""The input tokens of a prompt: the most before the call, and the most likely number if the provider reported none.

A prompt consists of its texts, its images, its tools, the JSON schema of its answer, and the results of a search. The wrapping of
its messages adds tokens (measured: 5 for each message, and 3 once). A prompt without a system prompt gets a default one of about
30 tokens.
"""

import json
from typing import Any

from aideer.billing.pricing import Tariff
from aideer.core.usage import Usage
from aideer.prompts import tokenizer
from aideer.prompts.prompts import MESSAGE_TOKENS, Prompt

_START = 3
_DEFAULT_SYSTEM = 30
_TOOLS = 250
"""Tokens of the text by which the provider tells a model how to call tools. Qwen's own template has some 150."""
_SPARE = 3
"""Tokens per message that `bound` adds to the measured wrapping."""


def compute_bound(tariff: Tariff, prompt: Prompt, parameters: dict[str, Any]) -> int:
    """Return the most input tokens that a prompt can have, by its bytes, without a search."""
    texts = sum(map(tokenizer.compute_bound, _texts(prompt, parameters)))
    return texts + _wrapping(prompt, MESSAGE_TOKENS + _SPARE) + _images(tariff, prompt)


def count_bound(tariff: Tariff, prompt: Prompt, parameters: dict[str, Any]) -> int:
    """Return the most input tokens that a prompt can have, by the model's own vocabulary, without a search.

    The bound adds a twentieth to the count of the texts, because the provider may count differently. The model's vocabulary
    must be known.
    """
    counted = -(-tokenizer.count(_texts(prompt, parameters)) * 21 // 20)
    return counted + _wrapping(prompt, MESSAGE_TOKENS) + _images(tariff, prompt)


def is_within(tariff: Tariff, prompt: Prompt, parameters: dict[str, Any], priced: int | None) -> bool:
    """Return whether a prompt has at most the input tokens that a task was priced for. A task of release 0.1.0 does not tell.

    `tariff` is the task's own. Tokens are counted only if the bytes do not show it.
    """
    if priced is None:
        return True
    room = int(priced) - tariff.get("search_tokens", 0)
    if compute_bound(tariff, prompt, parameters) <= room:
        return True
    return is_countable(tariff) and count_bound(tariff, prompt, parameters) <= room


def count(tariff: Tariff, prompt: Prompt, parameters: dict[str, Any]) -> Usage:
    """Return the most likely usage of an accepted call without reported usage: its input, and one search if enabled.

    `tariff` and `parameters` are the task's own. Nothing counts as cached. If the model's vocabulary is not known or not installed,
    a text counts as its bytes. Counting may take tokens.COUNT_SECONDS, so an event loop calls this in a thread.
    """
    searches = bool(parameters.get("enable_search"))
    texts = count_texts(tariff, _texts(prompt, parameters))
    found = tariff.get("search_tokens", 0) if searches else 0
    read = texts + _wrapping(prompt, MESSAGE_TOKENS) + _images(tariff, prompt) + found
    return Usage(read, searches=int(searches))


def is_countable(tariff: Tariff) -> bool:
    """Return whether the price table says that the model's vocabulary is Qwen's."""
    return tariff.get("tokenizer") == "qwen"


def count_texts(tariff: Tariff, texts: list[str]) -> int:
    """Return the most likely number of tokens of these texts."""
    return tokenizer.count(texts) if is_countable(tariff) else sum(map(tokenizer.compute_bound, texts))


def _texts(prompt: Prompt, parameters: dict[str, Any]) -> list[str]:
    call = {**parameters, **prompt.beside}
    beside = [(call.get("response_format") or {}).get("json_schema"), call.get("tools")]
    return prompt.contents + [json.dumps(value, ensure_ascii=False) for value in beside if value]


def _wrapping(prompt: Prompt, each: int) -> int:
    tools = _TOOLS + each * len(prompt.beside["tools"]) if prompt.beside.get("tools") else 0
    return each * len(prompt.messages) + _START + (0 if prompt.has_system else _DEFAULT_SYSTEM) + tools


def _images(tariff: Tariff, prompt: Prompt) -> int:
    return prompt.images * (tariff.get("image_tokens", 0) + MESSAGE_TOKENS)
