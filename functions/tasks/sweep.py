"""Every minute: end expired tasks, and hand due jobs to their queue."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer.core.logs import logger
from aideer.core.warmth import answers_pings
from aideer.tasks import sweeper


@answers_pings
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:  # noqa: ARG001 - a schedule's event has no content
    """Lambda's entry."""
    sweeper.sweep()
