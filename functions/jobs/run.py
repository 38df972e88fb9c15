"""The consumer of the jobs queue. It works on one job per message. The sweeper hands over unfinished jobs again."""

import time
from typing import Any

from aws_lambda_powertools.utilities.batch import process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext

from aideer.core.logs import logger
from aideer.core.sqs import LoggingBatchProcessor
from aideer.core.warmth import answers_pings
from aideer.data.jobs import Worker, run

RESERVE_SECONDS = 10
"""Seconds of the invocation kept for the calls under way when time is up."""
processor = LoggingBatchProcessor("jobs")


@answers_pings
@logger.inject_lambda_context(clear_state=True)
def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Run the jobs of these messages, and return the failed ones."""
    return process_partial_response(event, _run, processor, context)


def _run(record: SQSRecord, lambda_context: LambdaContext) -> None:
    logger.thread_safe_clear_keys()
    deadline = time.monotonic() + lambda_context.get_remaining_time_in_millis() / 1000 - RESERVE_SECONDS
    message = record.json_body
    logger.thread_safe_append_keys(job=message["sk"])
    run(message["pk"], message["sk"], deadline, WORKERS)


def _remove_generation(data: dict[str, Any], deadline: float) -> bool:
    from aideer.chats import cleanup

    return cleanup.remove_generation(data, deadline)


def _remove_copy(data: dict[str, Any], deadline: float) -> bool:
    from aideer.chats import cleanup

    return cleanup.remove_copy(data, deadline)


def _remove_preset_version(data: dict[str, Any], deadline: float) -> bool:
    from aideer.chats import cleanup

    return cleanup.remove_preset_version(data, deadline)


def _remove_chat(data: dict[str, Any], deadline: float) -> bool:
    from aideer.tasks import chat_deletion

    return chat_deletion.remove(data, deadline)


def _remove_chats(data: dict[str, Any], deadline: float) -> bool:
    from aideer.tasks import mass_deletion

    return mass_deletion.remove_contents(data, deadline)


def _remove_all_chats(data: dict[str, Any], deadline: float) -> bool:
    from aideer.tasks import mass_deletion

    return mass_deletion.remove_all(data, deadline)


def _remove_user(data: dict[str, Any], deadline: float) -> bool:
    from aideer.accounts import deletion

    return deletion.remove(data["user_id"], deadline)


def _finish_user(data: dict[str, Any], deadline: float) -> bool:
    from aideer.accounts import deletion

    return deletion.finish(data["user_id"], deadline)


def _remove_replaced_avatar(data: dict[str, Any], _: float) -> bool:
    from aideer.accounts import avatars

    avatars.remove_unnamed(data["user_id"], (data["old"], data["new"]))
    return True


def _remove_unused_upload(data: dict[str, Any], _: float) -> bool:
    from aideer.uploads import uploads

    return uploads.remove_unused(data["upload_id"])


def _make_title(data: dict[str, Any], deadline: float) -> bool:
    from aideer.tasks import auto_titles

    return auto_titles.make(data, deadline)


WORKERS: dict[str, Worker] = {
    "generation": _remove_generation,
    "copy": _remove_copy,
    "preset_version": _remove_preset_version,
    "chat": _remove_chat,
    "chats": _remove_chats,
    "all_chats": _remove_all_chats,
    "user": _remove_user,
    "user_last": _finish_user,
    "avatar": _remove_replaced_avatar,
    "upload": _remove_unused_upload,
    "title": _make_title,
}
"""The workers by kind of job. Each imports the modules that only its own kind needs."""
