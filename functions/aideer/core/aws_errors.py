"""The meaning of AWS's errors. pynamodb wraps all errors of DynamoDB alike, even if no response came."""

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


def is_refusal(error: PynamoDBException) -> bool:
    """Return whether the condition of a single write did not hold."""
    return _code(error) == "ConditionalCheckFailedException"


def is_conflict(error: PynamoDBException) -> bool:
    """Return whether a single write met a running transaction on its item.

    The write did not happen, and botocore does not retry it.
    """
    return _code(error) == "TransactionConflictException"


def is_unavailable(error: Exception) -> bool:
    """Return whether the same call may succeed in a moment.

    This is so if it was throttled or met another transaction, if the service failed, or if no response came.
    """
    if isinstance(error, PynamoDBException):
        return is_uncertain(error) or _code(error) in _UNAVAILABLE
    if isinstance(error, ClientError):  # this and the line after it: errors of a queue or a secret
        answer = error.response
        return answer["Error"]["Code"] in _UNAVAILABLE or answer["ResponseMetadata"]["HTTPStatusCode"] >= 500
    return isinstance(error, BotoCoreError)  # no response came


def is_uncertain(error: PynamoDBException) -> bool:
    """Return whether a write may have happened despite the error: no response came, or the service failed while it answered."""
    return isinstance(error.cause, BotoCoreError) or _code(error) == "InternalServerError"


def _code(error: PynamoDBException) -> str | None:
    # pynamodb raises an error of its own when it looks for a code and no response came.
    return None if isinstance(error.cause, BotoCoreError) else error.cause_response_code
