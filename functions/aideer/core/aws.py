"""botocore clients for services other than DynamoDB (queues, secrets).

The process makes them on first use and keeps them: clients are thread-safe.
"""

import functools
import json
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session, get_session

from aideer import __version__
from aideer.core import aws_errors, clock, settings
from aideer.core.logs import logger

T = TypeVar("T")
_CONFIG = Config(
    connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3}, max_pool_connections=64
)
_CONFIGS = {
    # A function that starts cold takes seconds to answer, and the next ping comes anyway.
    "lambda": Config(connect_timeout=2, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 1}),
    # Without it, botocore signs addresses by version 2, which newer regions refuse.
    "s3": _CONFIG.merge(Config(signature_version="s3v4")),
}
_REFRESH_SECONDS = 240.0
_SECRET_SECONDS = 300.0
_OUTAGE_SECONDS = 3600.0
_PAUSE_SECONDS = 60.0


class _Secret(NamedTuple):
    """A secret, and when the call began that read it. The process may have been frozen before that call returned."""

    read_at: float
    value: dict[str, str]


_NEVER = _Secret(0.0, {})
_secrets: dict[str, _Secret] = {}
_failed_at: dict[str, float] = {}
_refreshing: set[str] = set()
_lock = threading.Lock()
# S3 answers AccessDenied for a missing object if the caller may not list the bucket.
_GONE = {"NoSuchKey", "AccessDenied"}
_clients: list[Any] = []


@functools.cache
def shared_session() -> Session:
    """Return the process's botocore session. All clients share the data that it has loaded."""
    shared = get_session()
    # A fixed name: botocore would build its long one twice for each call, which is a tenth of the call's work.
    shared.set_default_client_config(Config(user_agent=f"AIDeer/{__version__}"))
    return shared


@functools.cache
def get_client(service: str) -> Any:
    """Return the process's client of this service."""
    return remember(shared_session().create_client(service, config=_CONFIGS.get(service, _CONFIG)))


def remember(client: Any) -> Any:
    """Note a client, so that `forget` closes its connections. Return it."""
    _clients.append(client)
    return client


def connect(client: Any) -> None:
    """Open a connection of this client, and keep it. The request is anybody's GET of the service's address, which costs nothing."""
    endpoint = client._endpoint
    _ = endpoint.http_session.send(AWSRequest("GET", endpoint.host).prepare()).content


def forget() -> None:
    """Close all connections, and forget all secrets. For a process that is a copy of another one."""
    for client in _clients:
        client._endpoint.http_session.close()
    _secrets.clear()
    _failed_at.clear()


def enqueue(queue_url: str, message: dict[str, str], delay_seconds: int = 0) -> None:
    """Send one JSON message to an SQS queue."""
    get_client("sqs").send_message(QueueUrl=queue_url, MessageBody=json.dumps(message), DelaySeconds=delay_seconds)


def read_object(bucket: str, key: str, most: int | None = None) -> bytes | None:
    """Return the bytes of an object in S3, at most so many, or None if there is no such object."""
    try:
        answer = get_client("s3").get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in _GONE:
            return None
        raise
    body: bytes = answer["Body"].read(most)
    return body


def remove_objects(bucket: str, prefix: str, deadline: float) -> bool:
    """Remove all objects in S3 with this prefix. Return False if `deadline` (of time.monotonic) comes first."""
    s3 = get_client("s3")
    while found := s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents"):
        for item in found:
            if time.monotonic() > deadline:
                return False
            s3.delete_object(Bucket=bucket, Key=item["Key"])
    return True


def read_secret(arn: str) -> dict[str, str]:
    """Return a JSON secret, read at most five minutes ago. So a rotated secret is in use everywhere after five minutes.

    After four minutes, a thread reads it again beside the caller, who does not wait. After five, the caller waits: a process that
    was frozen must not honour a key that was taken away meanwhile.

    While Secrets Manager does not answer, the secret may be an hour old. Then it is asked for once a minute, because that can take
    seconds.
    """
    known = _secrets.get(arn, _NEVER)
    now = clock.now()
    age = now - known.read_at
    if age <= _REFRESH_SECONDS:
        return known.value
    is_paused = now - _failed_at.get(arn, 0.0) <= _PAUSE_SECONDS
    if age <= _SECRET_SECONDS:
        if not is_paused:
            _refresh_beside(arn)
        return known.value
    is_good = age <= _OUTAGE_SECONDS
    if is_good and is_paused:
        return known.value
    try:
        return _fetch(arn)
    except (BotoCoreError, ClientError) as error:
        if not (is_good and aws_errors.is_unavailable(error)):
            raise
        _note_failure(arn, error)
        return known.value


async def run_with_secret(arn: str, function: Callable[..., T], *arguments: Any) -> T:
    """Run a function that reads this secret, and return its result. It runs in a thread only if it would wait for the secret."""
    import asyncio  # imported here: most functions run no event loop

    if clock.now() - _secrets.get(arn, _NEVER).read_at <= _SECRET_SECONDS:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _refresh_beside(arn: str) -> None:
    """Read a secret again in a thread, unless one does so already."""
    with _lock:
        if arn in _refreshing:
            return
        _refreshing.add(arn)
    threading.Thread(target=_refresh, args=(arn,), daemon=True).start()


def _refresh(arn: str) -> None:
    try:
        _fetch(arn)
    except Exception as error:  # the caller that needs it meets the error again
        if aws_errors.is_unavailable(error):
            _note_failure(arn, error)
    finally:
        _refreshing.discard(arn)


def _fetch(arn: str) -> dict[str, str]:
    began = clock.now()
    answer = get_client("secretsmanager").get_secret_value(SecretId=arn)
    value: dict[str, str] = json.loads(answer["SecretString"])
    with _lock:
        # A thread that was frozen may come back with an older value than another one has read since.
        if _secrets.get(arn, _NEVER).read_at <= began:
            _secrets[arn] = _Secret(began, value)
    return value


def _note_failure(arn: str, error: Exception) -> None:
    logger.warning("secret", extra={"error": type(error).__name__})
    _failed_at[arn] = clock.now()


def read_signing_keys() -> list[str]:
    """Return the keys that sign our tokens. The first signs and all verify; there are two during a rotation."""
    keys = read_secret(settings.SIGNING_SECRET_ARN)
    return [key for key in (keys["current"], keys.get("previous")) if key]


def read_dashscope_api_key() -> str:
    """Return the API key of DashScope."""
    return read_secret(settings.DASHSCOPE_SECRET_ARN)["dashscope_api_key"]


def read_wechat_application(*, website: bool) -> tuple[str, str]:
    """Return the appid and the secret of the WeChat website application or mini program. Both are empty if it is not set up."""
    keys = read_secret(settings.WECHAT_WEBSITE_SECRET_ARN if website else settings.WECHAT_SECRET_ARN)
    return keys.get("appid", ""), keys.get("secret", "")
