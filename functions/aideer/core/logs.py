"""The logger. Each line is one JSON object with the ids of the request, and has no secret and no text of a user."""

from aws_lambda_powertools import Logger

logger = Logger(service="aideer")
