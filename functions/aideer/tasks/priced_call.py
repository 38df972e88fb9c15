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


class PricedCall:
    """A call of the model for one user's question.

    Raises Unprocessable if the question, or the preset of its chat, cannot be answered, and TooLarge for its prompt.
    """

    def __init__(self, user_id: str, question: Question) -> None:
        self._user_id = user_id
        chat = question.chat
        preset = question.opens or prompts.get_preset(chat.preset_id, int(chat.preset_version))
        self._tariff: Tariff = model_limits.require_available(preset.parameters["model"])
        self._parameters: dict[str, Any] = titles.PARAMETERS if question.type == Task.TITLE else preset.parameters
        self.prompt: Prompt
        if question.type == Task.TITLE:
            self.prompt = titles.build_prompt(chat.thread, question.end)
            if not self.prompt.messages:
                raise Unprocessable("empty_chat", "This chat has no message from which a title could be made.")
            return
        model_limits.require_abilities(self._tariff, preset.parameters)
        stored_end = question.end - len(question.new)
        self.prompt = prompts.build(preset, chat.thread, stored_end, self._tariff, question.new)
        if not self.prompt.asks:
            raise Unprocessable("last_message_not_user", "The last message must be the user's.")
        if self.prompt.images:  # the chat may have moved to another preset since they were stored
            image_urls.require_vision(preset.parameters)

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
