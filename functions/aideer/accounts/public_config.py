"""GET /config: the facts that a front end needs before anybody signs in.

It costs two reads of DynamoDB at most, and none while this process knows the answer. It has no secret: of the settings for
WeChat, it tells only whether a sign-in works.
"""

import hashlib
from typing import NamedTuple

from aideer import __version__
from aideer.accounts import image_processing
from aideer.billing import pricing
from aideer.chats import chat_marks, configuration, presets
from aideer.chats.configuration import Configuration
from aideer.core import aws, characters, clock, settings
from aideer.data import branches
from aideer.data.models import Preset
from aideer.schemas import chats, questions, strings
from aideer.schemas.config import (
    AnnouncementResponse,
    CharacterRange,
    ConfigResponse,
    DefaultPreset,
    Limits,
    RateLimit,
    SignInWays,
)
from aideer.security import auth, limits
from aideer.uploads import attachments, document_text, kinds, pictures, uploads

FRESH_SECONDS = 10.0
"""Seconds for which this process does not read the configuration again."""
CACHE_SECONDS = 60
"""Seconds for which a client or a cache may keep the answer."""


class _Known(NamedTuple):
    read_at: float
    configuration: Configuration
    head: Preset | None


_known = _Known(float("-inf"), Configuration(), None)


def get() -> ConfigResponse:
    """Return the deployment as it is now. The default preset and the announcement may be FRESH_SECONDS old."""
    known, table = _read(), pricing.publish()
    return ConfigResponse.model_validate(
        {
            "version": __version__,
            "stream_base": auth.find_stream_base(),
            "v1_base": f"{settings.V1_BASE_URL}/v1" if settings.V1_BASE_URL else None,
            "sign_in": _list_sign_in_ways(),
            "default_preset": _show_preset(known.head) if known.head else None,
            "announcement": _show_announcement(known.configuration),
            "price_version": table["version"],
            "per": table["per"],
            "models": table["models"],
            "limits": _list_limits(),
        }
    )


def compute_tag(config: ConfigResponse) -> str:
    """Return the ETag of an answer."""
    return hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:32]


def forget() -> None:
    """Read the configuration again at the next call."""
    global _known
    _known = _known._replace(read_at=float("-inf"))


def _read() -> _Known:
    global _known  # a process answers one request at a time
    now = clock.now()
    if not 0 <= now - _known.read_at < FRESH_SECONDS:
        stored = configuration.read()
        _known = _Known(now, stored, configuration.find_default_preset(stored))
    return _known


def _list_sign_in_ways() -> SignInWays:
    website = all(aws.read_wechat_application(website=True))
    return SignInWays(
        password=True,
        wechat_mini_program=all(aws.read_wechat_application(website=False)),
        wechat_website=website,
        wechat_website_ticket=website and bool(settings.WECHAT_LOGIN_PAGE),
    )


def _show_preset(head: Preset) -> DefaultPreset:
    model = head.parameters["model"]
    return DefaultPreset(id=head.id, title=head.title, description=head.description, model=model)


def _show_announcement(stored: Configuration) -> AnnouncementResponse | None:
    announcement = stored.announcement
    if announcement is None or (announcement["until"] and announcement["until"] < clock.timestamp()):
        return None
    return AnnouncementResponse(**announcement)


def _list_limits() -> Limits:
    return Limits(
        message_bytes=chats.CONTENT_BYTES,
        messages_at_once=chats.MOST_MESSAGES,
        question_bytes=questions.MESSAGES_BYTES,
        title_characters=characters.TITLE_CHARACTERS,
        open_tasks=settings.OPEN_TASKS,
        chats=settings.MOST_CHATS,
        presets=presets.MOST,
        avatar_bytes=image_processing.MOST_BYTES,
        username_characters=_range(strings.USERNAME_CHARACTERS),
        password_characters=_range(strings.PASSWORD_CHARACTERS),
        upload_types=list(kinds.TYPES),
        upload_bytes=kinds.MOST_BYTES,
        image_pixels=pictures.MOST_PIXELS,
        document_bytes=document_text.MOST_BYTES,
        uploads_at_once=attachments.MOST,
        open_uploads=uploads.OPEN,
        pinned_chats=chat_marks.PINNED,
        tags=chats.TAGS,
        tag_characters=_range(strings.TAG_CHARACTERS),
        branches=branches.BRANCHES,
        siblings=branches.SIBLINGS,
        rates={kind: RateLimit(**limits.LIMITS[kind]._asdict()) for kind in limits.REFUSALS},
    )


def _range(bounds: tuple[int, int]) -> CharacterRange:
    least, most = bounds
    return CharacterRange(least=least, most=most)
