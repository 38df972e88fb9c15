"""The jobs queue's consumer: works one job a message. A job that is not done in time is handed over again by the sweep."""

import json
import time
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer import jobs

RESERVE_SECONDS = 10
"""Of the invocation, kept for the calls under way when time is up."""

logger = Logger(service="aideer")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Lambda's entry: the failed ones come again, and after five times go to the dead letters."""
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
    failed = []
    for record in event["Records"]:
        logger.thread_safe_clear_keys()
        try:
            message = json.loads(record["body"])
            logger.thread_safe_append_keys(job=message["sk"])
            jobs.run(message["pk"], message["sk"], deadline)
        except Exception as error:  # its class only: a message could quote what a user wrote
            logger.error("jobs", extra={"message_id": record["messageId"], "error": type(error).__name__})
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
