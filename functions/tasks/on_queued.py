"""The consumer of the tasks queue. It makes the answers of tasks without a viewer.

A message may come twice or late. If its task is not pending any more, another executor claimed it or it has ended. Then the message
is done. Only a failure before the claim brings the message back. After the claim, the sweeper ends a task whose executor failed.
"""

import asyncio
import json
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer.core import clock
from aideer.tasks import executor

logger = Logger(service="aideer")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Execute the tasks of these SQS records ({"task_id"} each), and return the records to deliver again."""
    failed = []
    for record in event["Records"]:
        logger.thread_safe_clear_keys()
        deadline = clock.now() + context.get_remaining_time_in_millis() / 1000
        try:
            task_id = json.loads(record["body"])["task_id"]
            logger.thread_safe_append_keys(task_id=task_id)
            asyncio.run(_execute(task_id, deadline))
        except Exception as error:  # logged once, and delivered again
            logger.error("on_queued", extra={"message_id": record["messageId"], "error": type(error).__name__})
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


async def _execute(task_id: str, deadline: float) -> None:
    try:
        await executor.execute(task_id, deadline)
    finally:
        await executor.finish(0)
