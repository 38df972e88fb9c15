"""The tables. These models are the data layer, and no repository stands on top of them. docs/decisions/ has the reasons.

A read that decides something is consistent. A write that can race has a condition. A change of several items is one transaction
(aideer/data/transactions.py). An item past its `ttl` counts as absent, even while DynamoDB still has it.
"""

from typing import Any

from pynamodb.attributes import (
    BooleanAttribute,
    MapAttribute,
    NumberAttribute,
    UnicodeAttribute,
    UnicodeSetAttribute,
)
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection

from aideer.core import settings
from aideer.data.base import Json, Table, Whole
from aideer.data.branches import Path, Segment, Tree


class UsersById(GlobalSecondaryIndex["User"]):
    class Meta:
        index_name = "by_id"
        projection = KeysOnlyProjection()

    list_shard = UnicodeAttribute(hash_key=True)
    id = UnicodeAttribute(range_key=True)


class UsersByUsername(GlobalSecondaryIndex["User"]):
    class Meta:
        index_name = "by_username"
        projection = KeysOnlyProjection()

    list_shard = UnicodeAttribute(hash_key=True)
    username = UnicodeAttribute(range_key=True)


class User(Table):
    """A person. `holds` maps each open task to its held credits; `credits` does not include them."""

    class Meta:
        table_name = settings.USERS_TABLE

    LIST_SHARDS = 4  # each takes a thousand sign-ups a second

    id = UnicodeAttribute(hash_key=True)
    list_shard = UnicodeAttribute(null=True)  # a deleted user has none, and so leaves the list
    username = UnicodeAttribute(null=True)  # a user that came by WeChat may have none
    nickname = UnicodeAttribute()
    permission = Whole()  # 0 visitor, 1 user, 2 admin
    avatar = UnicodeAttribute(null=True)
    name_keys = UnicodeSetAttribute(null=True)  # keys of the identities that reserve the username's look-alikes
    wechat_keys = UnicodeSetAttribute(null=True)  # keys of the identities for signing in with WeChat
    token_version = Whole(default=0)
    sessions = UnicodeSetAttribute(null=True)  # the ids of the sessions that go on (devices.py)
    unnamed_ended = BooleanAttribute(null=True)  # tokens without a session's id, of release 0.1, are refused
    credits = Whole()
    holds: MapAttribute[str, Any] = MapAttribute(default=dict)
    money_version = Whole(default=0)
    preset_count = Whole(default=0)
    like_count = Whole(null=True, default_for_new=0)  # release 0.1 did not count: likes.py does so at the next change
    deleted = BooleanAttribute(null=True)
    create_time = UnicodeAttribute()
    update_time = UnicodeAttribute()

    by_id = UsersById()
    by_username = UsersByUsername()

    reason: str | None = None
    """The reason of an administrator's request, from X-Reason. It is not stored here."""
    session_id: str | None = None
    """The id of the session whose token this request has. It is not stored here."""


class AuditByUser(GlobalSecondaryIndex["AuditRecord"]):
    class Meta:
        index_name = "by_user"
        projection = AllProjection()

    user_id = UnicodeAttribute(hash_key=True)
    id = UnicodeAttribute(range_key=True)


class AuditRecord(Table):
    """A record of an administrator's action (audit_trail.py). It is never changed, and its TTL removes it."""

    class Meta:
        table_name = settings.AUDIT_TABLE

    ALL = "records"
    """The one partition of the list. Only administrators add to it."""

    list = UnicodeAttribute(hash_key=True)
    id = UnicodeAttribute(range_key=True)
    actor_id = UnicodeAttribute()
    action = UnicodeAttribute()
    user_id = UnicodeAttribute(null=True)  # the owner of the data
    about = UnicodeAttribute(null=True)  # the id of a chat, preset or batch, or a code
    reason = UnicodeAttribute(null=True)
    create_time = UnicodeAttribute()
    ttl = Whole()

    by_user = AuditByUser()


class Identity(Table):
    """A way to sign in, and its secret part. Only functions for sessions, passwords and linking may read this table."""

    class Meta:
        table_name = settings.IDENTITIES_TABLE

    key = UnicodeAttribute(
        hash_key=True
    )  # password#<casefolded name>, skeleton#<its looks>, wechat#<openid> or wechat-union#<unionid>: the key keeps each unique
    user_id = UnicodeAttribute()
    password_hash = UnicodeAttribute(null=True)
    session_key = UnicodeAttribute(null=True)
    checked_at = Whole(null=True)  # when WeChat last confirmed the session of this key, in seconds since the epoch
    unionid = UnicodeAttribute(null=True)


_PRESET_HEAD = ["number", "type", "description", "parameters", "like_count"]


class PresetsByOwner(GlobalSecondaryIndex["Preset"]):
    class Meta:
        index_name = "by_owner"
        projection = IncludeProjection([*_PRESET_HEAD, "title", "visibility", "update_time"])

    owner_id = UnicodeAttribute(hash_key=True)
    create_time = UnicodeAttribute(range_key=True)


class PresetsByCreateTime(GlobalSecondaryIndex["Preset"]):
    class Meta:
        index_name = "by_visibility_create_time"
        projection = IncludeProjection([*_PRESET_HEAD, "title", "owner_id", "update_time"])

    visibility = UnicodeAttribute(hash_key=True)
    create_time = UnicodeAttribute(range_key=True)


class PresetsByUpdateTime(GlobalSecondaryIndex["Preset"]):
    class Meta:
        index_name = "by_visibility_update_time"
        projection = IncludeProjection([*_PRESET_HEAD, "title", "owner_id", "create_time"])

    visibility = UnicodeAttribute(hash_key=True)
    update_time = UnicodeAttribute(range_key=True)


class PresetsByTitle(GlobalSecondaryIndex["Preset"]):
    class Meta:
        index_name = "by_visibility_title"
        projection = IncludeProjection([*_PRESET_HEAD, "owner_id", "create_time", "update_time"])

    visibility = UnicodeAttribute(hash_key=True)
    title = UnicodeAttribute(range_key=True)


class Preset(Table):
    """One version of a preset. Version 0 is the head, which is listed, edited and deleted.

    Versions from 1 on never change, and chats pin them. Only heads have owner_id and visibility, so versions are not in the
    indexes.
    """

    class Meta:
        table_name = settings.PRESETS_TABLE

    HEAD = 0

    id = UnicodeAttribute(hash_key=True)
    version = Whole(range_key=True)
    number = Whole()  # the version that the head shows
    owner_id = UnicodeAttribute(null=True)
    visibility = UnicodeAttribute(null=True)
    title = UnicodeAttribute()
    description = UnicodeAttribute(null=True)
    type = UnicodeAttribute()
    parameters = Json()
    messages = Json()  # [{role, type, content, visibility}]
    like_count = Whole(default=0)
    # Whether users other than the owner could open chats on this version, and so may pin it. Release 0.1 did not write it.
    shared = BooleanAttribute(null=True)
    create_time = UnicodeAttribute()
    update_time = UnicodeAttribute()

    by_owner = PresetsByOwner()
    by_create_time = PresetsByCreateTime()
    by_update_time = PresetsByUpdateTime()
    by_title = PresetsByTitle()


class ChatsByCreateTime(GlobalSecondaryIndex["Chat"]):
    class Meta:
        index_name = "by_create_time"
        projection = KeysOnlyProjection()

    owner_id = UnicodeAttribute(hash_key=True)
    create_time = UnicodeAttribute(range_key=True)


class ChatsByUpdateTime(GlobalSecondaryIndex["Chat"]):
    class Meta:
        index_name = "by_update_time"
        projection = KeysOnlyProjection()

    owner_id = UnicodeAttribute(hash_key=True)
    update_time = UnicodeAttribute(range_key=True)


class ChatsByTitle(GlobalSecondaryIndex["Chat"]):
    class Meta:
        index_name = "by_title"
        projection = KeysOnlyProjection()

    owner_id = UnicodeAttribute(hash_key=True)
    title = UnicodeAttribute(range_key=True)


class ChatsByPreset(GlobalSecondaryIndex["Chat"]):
    """The chats that pin a version of a preset. cleanup.py looks here before it removes one."""

    class Meta:
        index_name = "by_preset"
        projection = KeysOnlyProjection()

    preset_id = UnicodeAttribute(hash_key=True)
    preset_version = Whole(range_key=True)


class Chat(Table):
    """A conversation, without its messages. A deleted chat stays as a tombstone without owner_id until the job has cleaned up."""

    class Meta:
        table_name = settings.CHATS_TABLE

    PERSON, MODEL, MESSAGE, DEFAULT = "person", "model", "message", "default"
    """Sources of a title: given, made by the model, the beginning of the first message, or none of these yet."""
    PROVISIONAL = (MESSAGE, DEFAULT)
    """Sources of titles that the model's title may replace although nobody asked for it at that moment."""

    id = UnicodeAttribute(hash_key=True)
    owner_id = UnicodeAttribute(null=True)
    preset_id = UnicodeAttribute()
    preset_version = Whole()
    title = UnicodeAttribute()
    title_source = UnicodeAttribute(null=True)  # release 0.1 did not write it: such a title counts as a person's
    auto_title = BooleanAttribute(null=True)  # the model makes the title after an answer
    title_task = UnicodeAttribute(null=True)  # the one task that auto_title has led to
    visibility = UnicodeAttribute()  # private or shared
    version = Whole()  # raised by every change that a reader of the chat could see; the ETag
    generation = UnicodeAttribute()  # the current one of the chat's message threads
    branches = Json(null=True)  # all branches (branches.py), if there is more than the main one
    branch = UnicodeAttribute(null=True)  # the shown one, if there is more than the main one
    next_n = Whole()
    message_count = Whole()
    preview = UnicodeAttribute(null=True)  # the last visible message's first 200 characters
    preview_n = Whole(null=True)  # the n of that message
    active_task = UnicodeAttribute(null=True)
    # the owner's marks (chat_marks.py): absent is False, or no tags
    pinned = BooleanAttribute(null=True)
    archived = BooleanAttribute(null=True)
    tags = Json(null=True)
    deleted = BooleanAttribute(null=True)
    create_time = UnicodeAttribute()
    update_time = UnicodeAttribute()

    by_create_time = ChatsByCreateTime()
    by_update_time = ChatsByUpdateTime()
    by_title = ChatsByTitle()
    by_preset = ChatsByPreset()

    @property
    def thread(self) -> str:
        """The hash key of the messages of the chat's main branch."""
        return f"{self.id}#{self.generation}"

    def find_thread(self, n: int) -> str:
        """Return the hash key of the message `n` of the shown path."""
        return next((segment.thread for segment in self.path if segment.clip(n, n)), self.thread)

    def has_thread(self, thread: str) -> bool:
        """Return whether a thread belongs to the chat's generation."""
        return f"{thread}#".startswith(f"{self.thread}#")

    @property
    def tree(self) -> Tree:
        """The chat's branches."""
        return Tree.load(self.thread, self.branch, self.branches, int(self.message_count), int(self.next_n))

    @property
    def path(self) -> Path:
        """The segments that hold the chat's shown messages. New ones go to the thread of the last segment."""
        return self.tree.path if self.branches else (Segment(self.thread),)

    @property
    def shown_thread(self) -> str:
        """The hash key of new messages."""
        return self.path[-1].thread


class Message(Table):
    """One message in one item, so an append costs the same at 10 messages and at 10,000. Within a chat, `n` only grows."""

    class Meta:
        table_name = settings.MESSAGES_TABLE

    CUT_OFF = ("interrupted", "content_filter")
    """Answers with these finish reasons are kept for their reader, but left out of previews and later prompts."""

    thread = UnicodeAttribute(hash_key=True)
    n = Whole(range_key=True)
    role = UnicodeAttribute()
    type = UnicodeAttribute(default="text")
    content = UnicodeAttribute()
    visibility = BooleanAttribute(default=True)
    create_time = UnicodeAttribute()
    # on answers only
    task_id = UnicodeAttribute(null=True)
    model = UnicodeAttribute(null=True)
    reasoning = UnicodeAttribute(null=True)
    finish_reason = UnicodeAttribute(null=True)  # stop, length, content_filter, stopped or interrupted
    usage = Json(null=True)
    upload = Json(null=True)  # {id, name, type, size, …}: the file that a user's message shows (uploads/attachments.py)
    sources = Json(null=True)  # [{index, title, url, site_name}]: web pages that the provider found
    credits = Whole(null=True)
    feedback = Json(null=True)  # {id, rating, tags, comment, preset_id, update_time} (chats/feedback.py)


class UploadsByOwner(GlobalSecondaryIndex["Upload"]):
    class Meta:
        index_name = "by_owner"
        projection = KeysOnlyProjection()

    owner_id = UnicodeAttribute(hash_key=True)
    id = UnicodeAttribute(range_key=True)


class Upload(Table):
    """A file of a user, for messages. It is there while chats use it, or else until `expires_at` (uploads/uploads.py)."""

    class Meta:
        table_name = settings.UPLOADS_TABLE

    id = UnicodeAttribute(hash_key=True)
    owner_id = UnicodeAttribute()
    kind = UnicodeAttribute()  # image or document
    type = UnicodeAttribute()  # the media type, as declared and then verified
    name = UnicodeAttribute()
    size = Whole()  # bytes of the file as it was declared; S3 takes no other size
    status = UnicodeAttribute()  # pending, ready or failed
    open = BooleanAttribute(null=True)  # counted among the user's open uploads: no chat has used it yet
    uses = Whole(default=0)  # the chats that use the image
    expires_at = Whole()  # seconds since the epoch; of no meaning while a chat uses it
    deleted = BooleanAttribute(null=True)
    claimed_until = Whole(null=True)  # a request processes the file until then, at most
    error_code = UnicodeAttribute(null=True)
    error_detail = Json(null=True)  # of texts.to_stored, for readers of any language
    width = Whole(null=True)  # of the image that was made of the file
    height = Whole(null=True)
    tokens = Whole(null=True)  # of a document's text
    text = UnicodeAttribute(null=True)  # of a document
    text_bytes = Whole(null=True)  # of the text: whoever reads the record pays for it, though it is not shown
    create_time = UnicodeAttribute()

    by_owner = UploadsByOwner()

    def is_there(self, now: float) -> bool:
        """Return whether the upload counts as present at this time."""
        return not self.deleted and (self.uses > 0 or self.expires_at > now)


class OpenTasks(GlobalSecondaryIndex["Task"]):
    """The open tasks, by the moment at which the sweeper must look at them."""

    class Meta:
        index_name = "open"
        projection = KeysOnlyProjection()

    open_shard = UnicodeAttribute(hash_key=True)
    lease_until = NumberAttribute(range_key=True)


class Task(Table):
    """One answer to make: the accepted and priced request, its executor, and its end."""

    TITLE = "title_generation"
    API = "api"
    """The type of a completion: an answer by an API key, without a chat."""
    OPEN = ("pending", "running")

    class Meta:
        table_name = settings.TASKS_TABLE

    id = UnicodeAttribute(hash_key=True)
    user_id = UnicodeAttribute()
    chat_id = UnicodeAttribute(null=True)  # a completion has none, and no thread, preset and prompt_end either
    key = Json(null=True)  # {id, hash}: the API key that began it
    type = UnicodeAttribute()
    status = UnicodeAttribute()  # pending, running, finished, stopped, failed
    streamed = BooleanAttribute(null=True)  # a viewer has opened the stream from its start
    polled = BooleanAttribute(null=True)  # a poll has sent the task to the queue once more
    opening = UnicodeAttribute(null=True)  # the request that opened the stream, if it did not claim the task as well
    stop_requested = BooleanAttribute(null=True)
    # the accepted and priced request
    hold = Whole()
    model = UnicodeAttribute()
    tariff = Json()  # pricing.Tariff, frozen
    preset_id = UnicodeAttribute(null=True)
    preset_version = Whole(null=True)
    parameters = Json()  # the parameters of the model's call, with max_tokens and thinking_budget
    max_tokens = Whole()
    thread = UnicodeAttribute(null=True)  # of the answer
    path = Json(null=True)  # the chat's path at the admission, if it had branches: [[thread, first, last]]
    prompt = Json(null=True)  # of a completion: {hash, messages}; its texts are stored nowhere
    prompt_end = Whole(null=True)  # the prompt holds the messages below this n
    input_tokens = Whole(null=True)  # the most input tokens that were priced; release 0.1.0 did not store them
    answer_n = Whole(null=True)
    replaces = Whole(null=True)  # the answer that is removed when this one settles with content
    continued = Json(null=True)  # {content, reasoning, bytes}: lengths of the answer that this one continues
    visibility = BooleanAttribute(null=True)  # the visibility of the replaced answer, and so of this one
    title_before = UnicodeAttribute(null=True)  # on title tasks: the title is set only if it is still this one
    unasked = BooleanAttribute(null=True)  # on title tasks of auto_title: only a provisional title is replaced
    entitles = BooleanAttribute(null=True)  # the chat waited for its title when this task was accepted
    # the executor
    executor = UnicodeAttribute(null=True)
    lease_until = NumberAttribute(null=True)
    open_shard = UnicodeAttribute(null=True)
    resends = Whole(default=0)
    usage_so_far = Json(null=True)  # the provider's usage as of the last renewal; removed when the task is closed
    # the end
    closed_by = UnicodeAttribute(null=True)
    usage = Json(null=True)
    credits = Whole(null=True)
    entry_id = UnicodeAttribute(null=True)  # the id of its line in the ledger
    finish_reason = UnicodeAttribute(null=True)
    error_code = UnicodeAttribute(null=True)
    text_length = Whole(null=True)  # code points of it in the stream log
    create_time = UnicodeAttribute()
    end_time = UnicodeAttribute(null=True)
    ttl = Whole(null=True)

    open = OpenTasks()

    first_token_ms: float | None = None
    """Milliseconds from the question to its first token, if a viewer waited. Its close counts it. It is not stored here."""

    @property
    def segments(self) -> Path:
        """The path whose messages below `prompt_end` are the prompt."""
        return tuple(Segment(*each) for each in self.path) if self.path else (Segment(self.thread),)

    @property
    def is_open(self) -> bool:
        """Whether the task has not ended yet."""
        return self.status in self.OPEN


class TaskEvent(Table):
    """A slice of a task's text as it was shown. `n` is the position (in code points) at which it begins."""

    class Meta:
        table_name = settings.TASK_EVENTS_TABLE

    task_id = UnicodeAttribute(hash_key=True)
    n = Whole(range_key=True)
    kind = UnicodeAttribute()  # reasoning, content or tools
    text = UnicodeAttribute()
    ttl = Whole()


class CreditEntry(Table):
    """A line of a user's ledger. Lines are added, never changed."""

    class Meta:
        table_name = settings.CREDITS_TABLE

    user_id = UnicodeAttribute(hash_key=True)
    entry_id = UnicodeAttribute(range_key=True)
    amount = Whole()
    kind = UnicodeAttribute()  # signup, redeem, grant, chat_generation, title_generation, api
    description = UnicodeAttribute()
    task_id = UnicodeAttribute(null=True)
    key_id = UnicodeAttribute(null=True)  # of the API key that asked
    code = UnicodeAttribute(null=True)
    model = UnicodeAttribute(null=True)
    input_tokens = Whole(null=True)
    output_tokens = Whole(null=True)
    price_version = UnicodeAttribute(null=True)
    granted_by = UnicodeAttribute(null=True)  # the administrator's id
    create_time = UnicodeAttribute()


class CodesByBatch(GlobalSecondaryIndex["Code"]):
    class Meta:
        index_name = "by_batch"
        projection = KeysOnlyProjection()

    batch = UnicodeAttribute(hash_key=True)
    code = UnicodeAttribute(range_key=True)


class CodesByCreateTime(GlobalSecondaryIndex["Code"]):
    class Meta:
        index_name = "by_create_time"
        projection = KeysOnlyProjection()

    listed = UnicodeAttribute(hash_key=True)
    create_time = UnicodeAttribute(range_key=True)


class Code(Table):
    """A redeem code. A revoked code stays, with the count of its uses."""

    class Meta:
        table_name = settings.CODES_TABLE

    ALL = "codes"
    """The one partition of the list. Only administrators add to it, and redeeming does not change it."""

    code = UnicodeAttribute(hash_key=True)  # upper case
    value = Whole()
    max_uses = Whole()
    used = Whole(default=0)
    expires_at = UnicodeAttribute(null=True)
    revoked = BooleanAttribute(null=True)
    batch = UnicodeAttribute(null=True)
    description = UnicodeAttribute(null=True)
    listed = UnicodeAttribute(default=ALL)
    create_time = UnicodeAttribute()

    by_batch = CodesByBatch()
    by_create_time = CodesByCreateTime()


class Record(Table):
    """Small records: idempotency, redemptions, sessions, used refresh tokens, jobs, statistics, rate limits."""

    class Meta:
        table_name = settings.RECORDS_TABLE

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    data = Json(null=True)
    at = NumberAttribute(null=True)  # seconds since the epoch; its meaning depends on the kind of record
    tasks = Whole(null=True)  # these seven: a shard of a day's statistics, of one model or of users
    failed = Whole(null=True)
    input_tokens = Whole(null=True)
    output_tokens = Whole(null=True)
    credits = Whole(null=True)
    users = Whole(null=True)
    deleted = Whole(null=True)
    uncovered = Whole(null=True)  # credits that no user pays (uncovered.py)
    rated_up = Whole(null=True)  # these two: answers of a model or with a preset, by their users' rating
    rated_down = Whole(null=True)
    first_token_250 = Whole(null=True)  # these eight: answers by their milliseconds to the first token (counters.py)
    first_token_500 = Whole(null=True)
    first_token_1000 = Whole(null=True)
    first_token_2000 = Whole(null=True)
    first_token_4000 = Whole(null=True)
    first_token_8000 = Whole(null=True)
    first_token_16000 = Whole(null=True)
    first_token_more = Whole(null=True)
    shortfalls = Whole(null=True)  # answers that cost more than their hold
    uses = Whole(null=True)  # the count of a rate limit, or of a user's chats
    room = Whole(null=True)  # credits that an API key may still hold (billing/key_room.py)
    version = Whole(
        null=True
    )  # of slots, settings, feeds, keys: raised by every change; of a session: the token_version
    ids = UnicodeSetAttribute(null=True)  # of a user's pinned chats (chats/chat_marks.py), or API keys with digests
    ttl = Whole(null=True)
