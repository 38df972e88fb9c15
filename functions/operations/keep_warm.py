"""Call functions, so that a process of each is ready when a person comes. A schedule invokes it with their names."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer.core import pings
from aideer.core.logs import logger
from aideer.core.warmth import answers_pings


@answers_pings
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Ping the functions of {"functions": [...], "streaming": [...], "concurrency": n}. Return how many answered or failed."""
    return pings.ping_all(event, context.get_remaining_time_in_millis() / 1000)
