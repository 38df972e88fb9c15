"""SQS: make the answers that nobody is watching, and those whose viewer never came.

A message may come twice or late: a task that is not pending any more is somebody else's, and the message is done with. Only a
failure before the claim brings the message back; after it, the sweep is the one that ends what was begun.
"""

import asyncio
import json
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer import clock, engine

logger = Logger(service="aideer")


@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Lambda's entry: SQS records with {"task_id"}; answers the ones to be delivered again."""
    failed = []
    for record in event["Records"]:
        logger.thread_safe_clear_keys()
        deadline = clock.now() + context.get_remaining_time_in_millis() / 1000
        try:
            task_id = json.loads(record["body"])["task_id"]
            logger.thread_safe_append_keys(task_id=task_id)
            asyncio.run(_execute(task_id, deadline))
        except Exception as error:  # named once, and delivered again
            logger.error("on_queued", extra={"message_id": record["messageId"], "error": type(error).__name__})
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


async def _execute(task_id: str, deadline: float) -> None:
    try:
        await engine.execute(task_id, deadline)
    finally:
        await engine.finish(0)
