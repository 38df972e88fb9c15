"""The consumer of the tasks queue. It makes the answers of tasks without a viewer.

A message may come twice or late. If its task is not pending any more, another executor claimed it or it has ended. Then the message
is done. Only a failure before the claim brings the message back. After the claim, the sweeper ends a task whose executor failed.
"""

import asyncio
from typing import Any

from aws_lambda_powertools.utilities.batch import process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer.core import clock
from aideer.core.logs import logger
from aideer.core.sqs import LoggingBatchProcessor
from aideer.core.warmth import answers_pings
from aideer.tasks import leases

processor = LoggingBatchProcessor("on_queued")


@answers_pings
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Execute the tasks of these SQS records ({"task_id"} each), and return the records to deliver again."""
    return process_partial_response(event, _execute_task, processor, context)


def _execute_task(record: SQSRecord, lambda_context: LambdaContext) -> None:
    logger.thread_safe_clear_keys()
    deadline = clock.now() + lambda_context.get_remaining_time_in_millis() / 1000
    task_id = record.json_body["task_id"]
    logger.thread_safe_append_keys(task_id=task_id)
    asyncio.run(_execute(task_id, deadline))


async def _execute(task_id: str, deadline: float) -> None:
    task = await asyncio.to_thread(leases.claim, task_id)
    if task is None:
        return
    # Imported here: the SDK takes most of a second, and most messages are about tasks that a stream has claimed.
    from aideer.tasks import executor

    try:
        await executor.execute_claimed(task, deadline)
    finally:
        await executor.finish(0)
