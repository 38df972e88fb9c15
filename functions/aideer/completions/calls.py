"""The call of a model for a completion: its model or preset, its messages in DashScope's form, and its parameters."""

import re
from collections.abc import Iterable
from typing import Any

from aideer.billing import model_limits, pricing
from aideer.billing.pricing import Tariff
from aideer.chats import presets
from aideer.completions.callers import Caller
from aideer.completions.requests import (
    UNSUPPORTED,
    ChatMessage,
    ChosenTool,
    CompletionRequest,
    FieldError,
    Part,
    invalid,
)
from aideer.core.errors import AideerError, Detail, Forbidden, NotFound, TooLarge, Unprocessable
from aideer.data import lookup
from aideer.data.models import Preset
from aideer.prompts import image_urls, prompts
from aideer.prompts.prompts import Prompt
from aideer.security.api_keys import PRESET_PREFIX
from aideer.tasks.priced_call import PricedPrompt

DEFAULT_MAX_TOKENS = 8192
"""The longest answer of a request that names no length. Clients of OpenAI's API seldom name one."""
_HOTTEST = 1.99
"""DashScope takes temperatures below 2, and OpenAI takes 2."""
_LEAST_TOP_P = 0.01
_DATA_IMAGE = re.compile(r"data:image/[\w.+-]{1,40};base64,[A-Za-z0-9+/]+={0,2}", re.ASCII)
_BESIDE = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "stop")
"""Parameters that are not stored with the task: they can be long, and can hold what a person has written."""


def prepare(caller: Caller, wanted: CompletionRequest) -> PricedPrompt:
    """Return the call of a request, ready to be priced.

    Raises Forbidden and NotFound for its model, and BadRequest, Unprocessable and TooLarge for what it asks of the model.
    """
    if not caller.allows(wanted.model):
        raise Forbidden("model_not_allowed", "This API key may not ask this model.")
    preset = _find_preset(caller, wanted.model)
    given = dict(preset.parameters) if preset else {"model": wanted.model}
    tariff = _find_tariff(str(given.pop("model")))
    parameters = _merge(given, wanted, tariff)
    beside = {name: parameters.pop(name) for name in _BESIDE if parameters.get(name) is not None}
    model_limits.require_abilities(tariff, {**parameters, **beside})
    said = _messages(wanted, tariff, preset)
    prompt = Prompt(said, asks=True, beside=beside)
    if (beside.get("response_format") or {}).get("type") == "json_object" and not _mentions_json(prompt):
        raise invalid("messages", "One of them must contain the word JSON for this response_format")
    return PricedPrompt(caller.user_id, tariff, parameters, prompt)


def _find_preset(caller: Caller, model: str) -> Preset | None:
    if not model.startswith(PRESET_PREFIX):
        return None
    head = lookup.find(Preset, model.removeprefix(PRESET_PREFIX), Preset.HEAD)
    if head is None or not presets.is_open_to(head, caller.user_id):
        raise _model_not_found()
    return head


def _find_tariff(model: str) -> Tariff:
    try:
        return model_limits.require_available(model)
    except Unprocessable:
        raise _model_not_found() from None


def _model_not_found() -> AideerError:
    return NotFound(
        "model_not_found", "There is no such model, or you may not use it. GET /v1/models lists the models."
    )


def _merge(given: dict[str, Any], wanted: CompletionRequest, tariff: Tariff) -> dict[str, Any]:
    """Return the parameters of the call: the preset's, with those of the request in their place."""
    own: dict[str, Any] = {
        "temperature": None if wanted.temperature is None else min(wanted.temperature, _HOTTEST),
        "top_p": None if wanted.top_p is None else max(wanted.top_p, _LEAST_TOP_P),
        "top_k": wanted.top_k,
        "max_tokens": wanted.max_completion_tokens or wanted.max_tokens,
        "stop": wanted.stop or None,
        "seed": None if wanted.seed is None else wanted.seed % 2**63,
        "presence_penalty": wanted.presence_penalty,
        "thinking_budget": wanted.thinking_budget,
        "enable_search": wanted.enable_search,
        "response_format": _form(wanted),
        **_tools(wanted, tariff),
    }
    call = {**given, **{name: value for name, value in own.items() if value is not None}}
    call.setdefault("max_tokens", min(DEFAULT_MAX_TOKENS, tariff["max_output"]))
    if wanted.response_format and wanted.response_format.type == "text":
        call.pop("response_format", None)
    _think(call, wanted, tariff)
    return call


def _think(call: dict[str, Any], wanted: CompletionRequest, tariff: Tariff) -> None:
    """Decide whether the call thinks. A model that cannot choose keeps its way, because clients send an effort to any model."""
    enabled = wanted.enable_thinking
    if enabled is None and wanted.reasoning_effort:
        enabled = wanted.reasoning_effort not in ("none", "minimal")
    if pricing.thinks(tariff) != "optional":
        for name in ("enable_thinking", "thinking_budget", "reasoning_effort"):
            call.pop(name, None)
        return
    if enabled is None and wanted.thinking_budget:
        enabled = True
    if enabled is None and wanted.response_format and wanted.response_format.type != "text":
        enabled = False
    if enabled is not None:
        call["enable_thinking"] = enabled
    if enabled is False:
        call.pop("thinking_budget", None)
        call.pop("reasoning_effort", None)


def _form(wanted: CompletionRequest) -> dict[str, Any] | None:
    form = wanted.response_format
    if form is None or form.type == "text":
        return None
    return form.model_dump(by_alias=True, exclude_none=True)


def _tools(wanted: CompletionRequest, tariff: Tariff) -> dict[str, Any]:
    if not wanted.tools:
        return {}
    if not tariff.get("tools"):
        raise FieldError(UNSUPPORTED, Detail("The model {model} takes no tools.", model=tariff["model"]), "tools")
    tools = [tool.model_dump(exclude_none=True) for tool in wanted.tools]
    choice: Any = wanted.tool_choice
    if choice == "required":
        # DashScope has no "required". With one tool, its name says the same.
        if len(tools) > 1:
            detail = Detail("With more than one tool, tool_choice must be auto, none or one tool.")
            raise FieldError(UNSUPPORTED, detail, "tool_choice")
        choice = {"type": "function", "function": {"name": tools[0]["function"]["name"]}}
    elif isinstance(choice, ChosenTool):
        choice = choice.model_dump()
        if choice["function"]["name"] not in [tool["function"]["name"] for tool in tools]:
            raise invalid("tool_choice.function.name", "It must be one of the tools")
    return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": wanted.parallel_tool_calls}


def _messages(wanted: CompletionRequest, tariff: Tariff, preset: Preset | None) -> list[dict[str, Any]]:
    """Return the messages in DashScope's form, the preset's first. Raises TooLarge if they are longer than the model takes."""
    said = (
        image_urls.to_parts((each["role"], each["type"], each["content"]) for each in preset.messages) if preset else []
    )
    said += [_message(number, message, tariff) for number, message in enumerate(wanted.messages)]
    _require_calls(wanted.messages)
    if said[-1]["role"] not in ("user", "tool"):
        raise invalid("messages", "The last one must be a user's or a tool's")
    enough, each = prompts.compute_reach(tariff)
    prompt = Prompt(said, asks=True)
    if sum(len(text.encode()) for text in prompt.contents) + each * len(said) > enough:
        raise TooLarge("context_too_long", "The conversation is longer than what the model takes.")
    return said


def _message(number: int, message: ChatMessage, tariff: Tariff) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    content: str | list[dict[str, str]] = (
        _parts(number, role, message.content, tariff) if isinstance(message.content, list) else message.content or ""
    )
    said: dict[str, Any] = {"role": role, "content": content}
    if role == "assistant" and message.tool_calls:
        said["tool_calls"] = [call.model_dump() for call in message.tool_calls]
    elif not content:
        said["content"] = " "  # the provider refuses a message without any text
    if role == "tool":
        if message.tool_call_id is None:
            raise invalid(f"messages.{number}.tool_call_id", "Field required")
        said["tool_call_id"] = message.tool_call_id
    return said


def _require_calls(messages: Iterable[ChatMessage]) -> None:
    """Raise BadRequest for the result of a tool that no message before it has called. The provider would refuse it too."""
    called: set[str] = set()
    for number, message in enumerate(messages):
        if message.role == "assistant":
            called.update(call.id for call in message.tool_calls or ())
        elif message.role == "tool" and message.tool_call_id not in called:
            raise invalid(f"messages.{number}.tool_call_id", "No message before it has this call")


def _parts(number: int, role: str, parts: Iterable[Part], tariff: Tariff) -> str | list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for part in parts:
        if part.type == "text":
            found.append({"text": part.text})
            continue
        if part.image_url is None:
            raise invalid(f"messages.{number}.content", "An image_url needs a url")
        if not tariff["vision"]:
            detail = Detail("The model {model} takes no images.", model=tariff["model"])
            raise FieldError(UNSUPPORTED, detail, "messages")
        address = part.image_url.url
        if not (role == "user" and _DATA_IMAGE.fullmatch(address)):
            image_urls.check(role, address)
        found.append({"image": address})
    if any("image" in part for part in found):
        return found
    return "\n".join(part["text"] for part in found)


def _mentions_json(prompt: Prompt) -> bool:
    return any("json" in text.lower() for text in prompt.contents)
