"""Consumers of SQS queues: Powertools' batch processor, with failures logged as this project logs them."""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType

from aideer.core.logs import logger


class LoggingBatchProcessor(BatchProcessor):
    """Logs each failed record once, under the message `name`, and lets SQS deliver it again.

    The log line has the error's class only, because an error's message could quote a user's text. After five deliveries, SQS moves
    a message to the dead-letter queue.
    """

    def __init__(self, name: str) -> None:
        super().__init__(EventType.SQS, raise_on_entire_batch_failure=False)
        self._name = name

    def failure_handler(self, record: Any, exception: Any) -> Any:
        """Log a record whose handler raised an error."""
        logger.error(self._name, extra={"message_id": record.message_id, "error": exception[0].__name__})
        return super().failure_handler(record, exception)
