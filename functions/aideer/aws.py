"""botocore clients for what is no table (queues, secrets), made on first use and kept: clients are thread-safe."""

import functools
import json
from typing import Any

from botocore.config import Config
from botocore.session import Session, get_session

from aideer import __version__, clock, settings

_CONFIG = Config(
    connect_timeout=2, read_timeout=5, retries={"mode": "standard", "max_attempts": 3}, max_pool_connections=64
)
_SECRET_SECONDS = 300.0
_secrets: dict[str, tuple[float, dict[str, str]]] = {}


@functools.cache
def session() -> Session:
    """The process's botocore session: what it has loaded once, every client uses."""
    shared = get_session()
    # A fixed name: botocore would put together a long one twice for each call, a tenth of the call's work.
    shared.set_default_client_config(Config(user_agent=f"AIDeer/{__version__}"))
    return shared


@functools.cache
def client(service: str) -> Any:
    """The process's client of this service."""
    return session().create_client(service, config=_CONFIG)


def enqueue(queue_url: str, message: dict[str, str], delay_seconds: int = 0) -> None:
    """Send one JSON message to an SQS queue."""
    client("sqs").send_message(QueueUrl=queue_url, MessageBody=json.dumps(message), DelaySeconds=delay_seconds)


def secret(arn: str) -> dict[str, str]:
    """Return a JSON secret, at most five minutes old: a rotated one is in use everywhere after that."""
    read_at, value = _secrets.get(arn, (0.0, {}))
    if clock.now() - read_at > _SECRET_SECONDS:
        value = json.loads(client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"])
        _secrets[arn] = (clock.now(), value)
    return value


def signing_keys() -> list[str]:
    """Keys that sign our tokens: the first signs, all verify (two during a rotation)."""
    keys = secret(settings.SIGNING_SECRET_ARN)
    return [key for key in (keys["current"], keys.get("previous")) if key]


def providers() -> dict[str, str]:
    """Keys of the services that we call: dashscope_api_key, wechat_appid and _secret, wechat_web_appid and _secret."""
    return secret(settings.PROVIDERS_SECRET_ARN)
