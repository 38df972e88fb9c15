"""What AWS's errors mean. pynamodb wraps DynamoDB's all alike, also where there was no answer at all."""

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException

_UNAVAILABLE = {
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
}


def refused(error: PynamoDBException) -> bool:
    """Whether the one condition of a single write did not hold."""
    return _code(error) == "ConditionalCheckFailedException"


def conflicting(error: PynamoDBException) -> bool:
    """Whether a single write met a transaction on its item: nothing happened, and botocore does not try again."""
    return _code(error) == "TransactionConflictException"


def unavailable(error: Exception) -> bool:
    """Whether the same call may work in a moment: too much is going on, the service failed, or gave no answer."""
    if isinstance(error, PynamoDBException):
        return uncertain(error) or _code(error) in _UNAVAILABLE
    if isinstance(error, ClientError):  # of a queue or a secret, as is what follows
        answer = error.response
        return answer["Error"]["Code"] in _UNAVAILABLE or answer["ResponseMetadata"]["HTTPStatusCode"] >= 500
    return isinstance(error, BotoCoreError)  # no answer came


def uncertain(error: PynamoDBException) -> bool:
    """Whether a write may have happened all the same: no answer came, or the service failed while it answered."""
    return isinstance(error.cause, BotoCoreError) or _code(error) == "InternalServerError"


def _code(error: PynamoDBException) -> str | None:
    # pynamodb fails to look for a code where there was no answer.
    return None if isinstance(error.cause, BotoCoreError) else error.cause_response_code
