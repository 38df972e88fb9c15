"""The consumer of the jobs queue. It works on one job per message. The sweeper hands over unfinished jobs again."""

import json
import time
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer import jobs

RESERVE_SECONDS = 10
"""Seconds of the invocation kept for the calls under way when time is up."""

logger = Logger(service="aideer")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Run the jobs of these messages, and return the failed ones.

    After five deliveries, SQS moves a message to the dead-letter queue.
    """
    deadline = time.monotonic() + context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
    failed = []
    for record in event["Records"]:
        logger.thread_safe_clear_keys()
        try:
            message = json.loads(record["body"])
            logger.thread_safe_append_keys(job=message["sk"])
            jobs.run(message["pk"], message["sk"], deadline)
        except Exception as error:  # log its class only: a message could quote a user's text
            logger.error("jobs", extra={"message_id": record["messageId"], "error": type(error).__name__})
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}
