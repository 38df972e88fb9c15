"""botocore clients for services other than DynamoDB (queues, secrets).

The process makes them on first use and keeps them: clients are thread-safe.
"""

import functools
import json
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session, get_session

from aideer import __version__
from aideer.core import aws_errors, clock, settings
from aideer.core.logs import logger

_CONFIG = Config(
    connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3}, max_pool_connections=64
)
_SECRET_SECONDS = 300.0
_OUTAGE_SECONDS = 3600.0
_PAUSE_SECONDS = 60.0
_secrets: dict[str, tuple[float, dict[str, str]]] = {}
_failed_at: dict[str, float] = {}


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
    return shared_session().create_client(service, config=_CONFIG)


def enqueue(queue_url: str, message: dict[str, str], delay_seconds: int = 0) -> None:
    """Send one JSON message to an SQS queue."""
    get_client("sqs").send_message(QueueUrl=queue_url, MessageBody=json.dumps(message), DelaySeconds=delay_seconds)


def read_secret(arn: str) -> dict[str, str]:
    """Return a JSON secret, read at most five minutes ago. So a rotated secret is in use everywhere after five minutes.

    While Secrets Manager does not answer, the secret may be an hour old. Then it is asked for once a minute, because that can take
    seconds.
    """
    read_at, value = _secrets.get(arn, (0.0, {}))
    now = clock.now()
    if now - read_at <= _SECRET_SECONDS:
        return value
    is_good = now - read_at <= _OUTAGE_SECONDS
    if is_good and now - _failed_at.get(arn, 0.0) <= _PAUSE_SECONDS:
        return value
    try:
        answer = get_client("secretsmanager").get_secret_value(SecretId=arn)
    except (BotoCoreError, ClientError) as error:
        if not (is_good and aws_errors.is_unavailable(error)):
            raise
        logger.warning("secret", extra={"error": type(error).__name__})
        _failed_at[arn] = clock.now()
        return value
    _secrets[arn] = (clock.now(), json.loads(answer["SecretString"]))
    return _secrets[arn][1]


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
