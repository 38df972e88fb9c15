"""The environment variables of a function, read once at import.

template.yaml declares every name. No other module reads os.environ.
"""

import os

USERS_TABLE = os.environ["USERS_TABLE"]
IDENTITIES_TABLE = os.environ["IDENTITIES_TABLE"]
PRESETS_TABLE = os.environ["PRESETS_TABLE"]
CHATS_TABLE = os.environ["CHATS_TABLE"]
MESSAGES_TABLE = os.environ["MESSAGES_TABLE"]
TASKS_TABLE = os.environ["TASKS_TABLE"]
TASK_EVENTS_TABLE = os.environ["TASK_EVENTS_TABLE"]
CREDITS_TABLE = os.environ["CREDITS_TABLE"]
CODES_TABLE = os.environ["CODES_TABLE"]
RECORDS_TABLE = os.environ["RECORDS_TABLE"]
AUDIT_TABLE = os.environ["AUDIT_TABLE"]
UPLOADS_TABLE = os.environ["UPLOADS_TABLE"]
AVATARS_BUCKET = os.environ["AVATARS_BUCKET"]
UPLOADS_BUCKET = os.environ["UPLOADS_BUCKET"]
UPLOADS_ORIGIN = os.environ.get("UPLOADS_ORIGIN", "").rstrip("/")
"""The address at which browsers reach the bucket's service. Empty: the address that the SDK uses."""
AWS_REGION = os.environ.get("AWS_REGION", "")
"""The stack's region. Lambda sets it."""
AWS_ENDPOINT_URL = os.environ.get("AWS_ENDPOINT_URL", "")
"""The address of an AWS on this machine, which no provider can reach. Empty: the real AWS."""

TASKS_QUEUE_URL = os.environ["TASKS_QUEUE_URL"]
JOBS_QUEUE_URL = os.environ["JOBS_QUEUE_URL"]
DEAD_LETTERS_URL = os.environ["DEAD_LETTERS_URL"]
"""The queue of messages that failed five times. Empty in functions that may not read it."""
SIGNING_SECRET_ARN = os.environ["SIGNING_SECRET_ARN"]
DASHSCOPE_SECRET_ARN = os.environ["DASHSCOPE_SECRET_ARN"]
WECHAT_SECRET_ARN = os.environ["WECHAT_SECRET_ARN"]
WECHAT_WEBSITE_SECRET_ARN = os.environ["WECHAT_WEBSITE_SECRET_ARN"]
"""Secrets of the providers. A function gets the ARN of a secret only if it may read it. The other ARNs are empty."""

INITIALIZATION = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "")
"""How Lambda started this process: on-demand, provisioned-concurrency or snap-start. Empty elsewhere."""

AUDIT_DAYS = int(os.environ["AUDIT_DAYS"])
SIGNUP_CREDITS = int(os.environ["SIGNUP_CREDITS"])
UNCOVERED_CREDITS = int(os.environ["UNCOVERED_CREDITS"])
"""The most credits that one user's failed answers may cost the operator in a day. At this sum, new tasks are refused."""
OPEN_TASKS = int(os.environ["OPEN_TASKS"])
"""The most tasks that one user may have open at one time."""
THROTTLES = os.environ["THROTTLES"]
MOST_CHATS = int(os.environ["MOST_CHATS"])
"""The most chats of one user."""
API_DOCS = os.environ["API_DOCS"] != "false"
"""Whether /docs and /openapi.json are served."""
METRICS_NAMESPACE = os.environ["METRICS_NAMESPACE"]
"""The CloudWatch namespace of the metrics. Empty: no metrics."""
LEASE_SECONDS = float(os.environ["LEASE_SECONDS"])
TASK_SECONDS = float(os.environ["TASK_SECONDS"])
PROVIDER_REGION = os.environ.get("PROVIDER_REGION") or "beijing"
"""The region whose price table applies: the name of a file in aideer/billing/prices."""
DASHSCOPE_HTTP_BASE_URL = os.environ["DASHSCOPE_HTTP_BASE_URL"]
WECHAT_BASE_URL = os.environ["WECHAT_BASE_URL"].rstrip("/")
WECHAT_OPEN_URL = os.environ["WECHAT_OPEN_URL"].rstrip("/")
WECHAT_CALLBACK_URL = os.environ["WECHAT_CALLBACK_URL"]
"""The address that WeChat redirects browsers to. Empty: the callback on the domain that the request used."""
WECHAT_LOGIN_PAGE = os.environ["WECHAT_LOGIN_PAGE"]
"""The page that receives a ticket from the callback. Empty: the callback itself returns tokens."""
STREAM_BASE_URL = os.environ.get("STREAM_BASE_URL", "").rstrip("/")
"""The origin of stream_url: the domain, if there is one, or the address of the stream function.

Without a domain, only the functions that return stream_url have it. The stream function itself cannot have its own address,
because its resource in template.yaml would refer to itself. Empty where nothing streams: then the request's own origin counts.
"""
V1_BASE_URL = os.environ.get("V1_BASE_URL", "").rstrip("/")
"""The origin of OpenAI's API, which only GET /config tells: the domain, or the address of its function. Empty: there is none."""
PUBLIC_BASE_URL = os.environ.get("PUBLIC_BASE_URL", "").rstrip("/")
"""The origin of addresses that users hand on: the domain. Empty: the origin that the request used."""
STREAM_PATH = os.environ.get("STREAM_PATH") or "stream"
"""The last part of stream_url's path: `stream`, or `poll` where nothing streams."""
_SECRET_CHARACTERS = 32
ORIGIN_SECRETS = tuple(
    secret for secret in os.environ.get("ORIGIN_SECRETS", "").split() if len(secret) >= _SECRET_CHARACTERS
)
"""What CloudFront sends. There are two during a rotation, and none without a domain. Shorter texts are placeholders."""
DOMAIN_REQUIRED = os.environ.get("DOMAIN_REQUIRED") == "true"
"""Whether a firewall stands before the domain, so that every request must come through it."""
