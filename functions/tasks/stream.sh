#!/bin/sh
# The streaming function's Handler: the web adapter runs this, and hands it each invocation as an HTTP request.
# No access log, because the URLs of streams carry tickets.
export PYTHONPATH="$LAMBDA_TASK_ROOT:/opt/python"
exec python3 -m uvicorn tasks.stream:app --host 127.0.0.1 --port "$AWS_LWA_PORT" --no-access-log --log-level warning
