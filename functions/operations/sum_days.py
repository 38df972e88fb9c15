"""Add up the statistics of finished days. A schedule invokes it every hour, and repeating it changes nothing."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer.billing import statistics
from aideer.core.logs import logger
from aideer.core.warmth import answers_pings


@answers_pings
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:  # noqa: ARG001 - a schedule's event has no content
    """Lambda's entry. Return how many days were added up."""
    return {"days": statistics.sum_finished_days()}
