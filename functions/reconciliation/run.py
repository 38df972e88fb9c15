"""Check the credit rules of all users and report the result. A schedule or an operator invokes it.

The event {"begin": true} begins a run if none is under way. Any event continues a run that is under way.
"""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer.billing import reconciliation
from aideer.core import metrics
from aideer.core.logs import logger
from aideer.core.warmth import answers_pings


@answers_pings
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> None:
    """Lambda's entry."""
    run = reconciliation.continue_run(context.get_remaining_time_in_millis() / 1000, begin=event.get("begin") is True)
    if run is None:
        return
    drifts = sum(run.drifts.values())
    metrics.emit({"ReconciliationDrift": drifts, "UsersReconciled": run.users})
    if drifts:
        logger.error("reconciliation", extra={"run": run.id, "drifts": run.drifts})
