"""Calls of the model: the prompt of a question with its parameters, and the most that the answer can cost."""

import functools
from typing import Any

from aideer.billing import model_limits, pricing, uncovered
from aideer.billing.estimates import Estimate, estimate
from aideer.billing.pricing import Tariff
from aideer.core.errors import PaymentRequired, TooLarge, TooManyRequests, Unprocessable
from aideer.data.models import Task
from aideer.prompts import image_urls, input_tokens, prompts
from aideer.prompts.prompts import Prompt
from aideer.security import rate_limits
from aideer.tasks import titles
from aideer.tasks.questions import Question


class PricedPrompt:
    """A prompt for a model, and the most that its answer can cost one user."""

    def __init__(self, user_id: str, tariff: Tariff, parameters: dict[str, Any], prompt: Prompt) -> None:
        self._user_id = user_id
        self._tariff = tariff
        self._parameters = parameters
        self.prompt = prompt

    def estimate(self, credits_left: int) -> Estimate:
        """Price the call by its bytes, which takes no time. Count its tokens only if that can change the result.

        It can if the bytes would refuse the call or put it into a dearer tier. Counting takes time, so each user has a rate limit.
        Raises PaymentRequired and TooLarge.
        """
        try:
            accepted = estimate(self._tariff, self._parameters, self._by_bytes, credits_left)
            if pricing.find_tier(accepted.tariff, accepted.input_tokens) == 0 or not self._may_count():
                return accepted
        except (PaymentRequired, TooLarge):
            if not self._may_count():
                raise
        return estimate(self._tariff, self._parameters, self._counted, credits_left)

    @functools.cached_property
    def _by_bytes(self) -> int:
        return input_tokens.compute_bound(self._tariff, self.prompt, self._parameters)

    @functools.cached_property
    def _counted(self) -> int:
        return min(self._by_bytes, input_tokens.count_bound(self._tariff, self.prompt, self._parameters))

    def _may_count(self) -> bool:
        if "_counted" in vars(self):
            return True
        if not input_tokens.is_countable(self._tariff) or uncovered.had_shortfall(self._user_id):
            return False
        try:
            rate_limits.count("estimate", self._user_id)
        except TooManyRequests:
            return False
        return True


class PricedCall(PricedPrompt):
    """A call of the model for one user's question.

    Raises Unprocessable if the question, or the preset of its chat, cannot be answered, and TooLarge for its prompt.
    """

    def __init__(self, user_id: str, question: Question) -> None:
        chat = question.chat
        own = question.answering or question.opens
        preset = own or prompts.get_preset(chat.preset_id, int(chat.preset_version))
        parameters = {**preset.parameters, "model": question.model} if question.model else preset.parameters
        tariff = model_limits.require_available(parameters["model"])
        if question.parameters:
            parameters = {**parameters, **question.parameters}
        if question.type == Task.TITLE:
            prompt = titles.build_prompt(chat.path, question.end)
            if not prompt.messages:
                raise Unprocessable("empty_chat", "This chat has no message from which a title could be made.")
            super().__init__(user_id, tariff, titles.PARAMETERS, prompt)
            return
        model_limits.require_abilities(tariff, parameters)
        stored_end = question.end - len(question.new)
        prompt = prompts.build(preset, chat.path, stored_end, tariff, question.added, question.known)
        if not prompt.asks:
            raise Unprocessable("last_message_not_user", "The last message must be the user's.")
        if prompt.images:  # the chat may have moved to another preset since they were stored
            image_urls.require_vision(parameters)
        super().__init__(user_id, tariff, parameters, prompt)
