"""The environment of a function, read once. template.yaml declares every name; nothing else reads os.environ."""

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
AVATARS_BUCKET = os.environ["AVATARS_BUCKET"]

TASKS_QUEUE_URL = os.environ["TASKS_QUEUE_URL"]
JOBS_QUEUE_URL = os.environ["JOBS_QUEUE_URL"]
SIGNING_SECRET_ARN = os.environ["SIGNING_SECRET_ARN"]
DASHSCOPE_SECRET_ARN = os.environ["DASHSCOPE_SECRET_ARN"]
WECHAT_SECRET_ARN = os.environ["WECHAT_SECRET_ARN"]
WECHAT_WEBSITE_SECRET_ARN = os.environ["WECHAT_WEBSITE_SECRET_ARN"]
"""Secrets of the providers. A function is told the ARN of a secret only if it may read it; the others are empty."""

AUDIT_DAYS = int(os.environ["AUDIT_DAYS"])
SIGNUP_CREDITS = int(os.environ["SIGNUP_CREDITS"])
UNCOVERED_CREDITS = int(os.environ["UNCOVERED_CREDITS"])
"""The most that failed answers of one user may cost the operator in a day before new tasks are refused."""
THROTTLES = os.environ["THROTTLES"]
METRICS_NAMESPACE = os.environ["METRICS_NAMESPACE"]
"""Where in CloudWatch metrics go; empty for none."""
LEASE_SECONDS = float(os.environ["LEASE_SECONDS"])
TASK_SECONDS = float(os.environ["TASK_SECONDS"])
PROVIDER_REGION = os.environ.get("PROVIDER_REGION") or "beijing"
"""Whose price table is in force: the name of a file in aideer/prices."""
DASHSCOPE_HTTP_BASE_URL = os.environ["DASHSCOPE_HTTP_BASE_URL"]
WECHAT_BASE_URL = os.environ["WECHAT_BASE_URL"].rstrip("/")
WECHAT_OPEN_URL = os.environ["WECHAT_OPEN_URL"].rstrip("/")
WECHAT_CALLBACK_URL = os.environ["WECHAT_CALLBACK_URL"]
"""Where WeChat sends people back to, if that is not the domain that they came from."""
WECHAT_LOGIN_PAGE = os.environ["WECHAT_LOGIN_PAGE"]
"""The page that takes over from the callback with a ticket; none: the callback answers tokens."""
STREAM_BASE_URL = os.environ.get("STREAM_BASE_URL", "").rstrip("/")
"""Origin of the streaming door. Only the functions that hand out stream_url know it: the stream function cannot name itself."""
