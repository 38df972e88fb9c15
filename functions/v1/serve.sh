#!/bin/sh
# The Handler of the function of /v1: the web adapter runs this, and hands it each invocation as an HTTP request.
export PYTHONPATH="$LAMBDA_TASK_ROOT:/opt/python"
exec python3 -m uvicorn v1.serve:app --host 127.0.0.1 --port "$AWS_LWA_PORT" --no-access-log --log-level warning
