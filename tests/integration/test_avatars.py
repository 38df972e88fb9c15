"""Avatars: what may be sent, who sees what, and that nothing but the current picture stays."""

import base64
import contextlib
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aideer.accounts import avatars, image_processing
from aideer.core import aws, clock
from aideer.core import settings as environment
from aideer.core.errors import Busy
from aideer.data import jobs, lookup, transactions
from aideer.data.models import Record, User
from aideer.web import multipart
from jobs import run
from tests import faults
from tests.support import Answer, Api, Context, Person, make_person, recorded_calls

FUNCTIONS = Path(avatars.__file__).parents[2]
DEFAULT = (FUNCTIONS / "aideer/accounts/avatar.jpg").read_bytes()
KEPT, ASKED_FOR = "private, max-age=31536000, immutable", "private, no-cache"


def picture(colour: str = "red", kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (150, 140), colour).save(written, kind)
    return written.getvalue()


def form(*parts: tuple[str, bytes], boundary: bytes = b"aideer") -> bytes:
    """A multipart body of parts, each with its Content-Disposition."""
    body = b"".join(
        b"--%s\r\nContent-Disposition: form-data; %s\r\nContent-Type: image/png\r\n\r\n%s\r\n"
        % (boundary, disposition.encode(), content)
        for disposition, content in parts
    )
    return body + b"--%s--\r\n" % boundary


def upload(api: Api, user: Person | None, content: bytes, **options: Any) -> Answer:
    body = form(('name="avatar_file"; filename="me.png"', content))
    headers = {"content-type": "multipart/form-data; boundary=aideer"}
    return api("users.avatar_set", "POST", "/users/me/avatar", raw=body, user=user, headers=headers, **options)


def get(api: Api, user: Person | None, path: str = "/users/me/avatar", etag: str | None = None, **more: Any) -> Answer:
    headers = {"if-none-match": etag} if etag else {}
    if path.partition("?")[0].endswith("/me/avatar"):
        return api("users.avatar_me", "GET", path, user=user, headers=headers, **more)
    return api("users.avatar_get", "GET", path, user=user, headers=headers, **more)


def pixels(answer: Answer) -> bytes:
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    return answer.body.encode("latin-1")


def objects(person: Person) -> list[str]:
    found = aws.get_client("s3").list_objects_v2(Bucket=environment.AVATARS_BUCKET, Prefix=f"avatars/{person.id}/")
    return sorted(item["Key"] for item in found.get("Contents", []))


def named(person: Person) -> list[str]:
    return [f"avatars/{person.id}/{person.user.avatar}.jpg"]


def work_jobs(person: Person, kind: str = "avatar") -> int:
    """Work this person's jobs of a kind, as the queue has them worked once they are due; how many they were."""
    due = [job for job in jobs.list_due(clock.now() + avatars.REPLACED_SECONDS + 1) if job.data["kind"] == kind]
    mine = [job for job in due if job.data["user_id"] == person.id]
    for job in mine:
        message = {"messageId": "1", "body": json.dumps({"pk": job.pk, "sk": job.sk})}
        assert run.handler({"Records": [message]}, Context()) == {"batchItemFailures": []}
    return len(mine)


def test_a_picture_is_taken_in_and_shown(api: Api, person: Callable[..., Person]) -> None:
    me, other = person(), person()
    answer = upload(api, me, picture())
    assert answer.status == 200
    assert answer.json["id"] == me.id
    path = answer.json["avatar"]
    assert path.startswith(f"/api/v1/users/{me.id}/avatar?v=")
    expected = image_processing.make_avatar(picture())
    for viewer in (me, other, person(permission=0)):
        shown = get(api, viewer, path, parameters={"id": me.id})
        assert pixels(shown) == expected
        assert shown.headers["cache-control"] == KEPT
    assert pixels(get(api, me)) == expected
    assert api("users.me", "GET", "/users/me", user=me).json["avatar"] == path
    assert objects(me) == named(me)


def test_visitors_have_pictures_too(api: Api, person: Callable[..., Person]) -> None:
    visitor = person(permission=0)
    assert upload(api, visitor, picture()).status == 200
    assert pixels(get(api, visitor)) == image_processing.make_avatar(picture())


def test_who_has_none_is_shown_the_same_one_as_all_who_have_none(api: Api, person: Callable[..., Person]) -> None:
    me, other = person(), person()
    assert me.user.avatar is None
    mine, theirs = get(api, me), get(api, me, f"/users/{other.id}/avatar", parameters={"id": other.id})
    assert pixels(mine) == pixels(theirs) == DEFAULT
    assert mine.headers["etag"] == theirs.headers["etag"]
    assert mine.headers["cache-control"] == ASKED_FOR
    assert mine.headers["vary"] == theirs.headers["vary"] == "Authorization"
    assert get(api, me, etag=mine.headers["etag"]).status == 304
    with Image.open(io.BytesIO(DEFAULT)) as default:
        assert (default.format, default.mode, default.size) == ("JPEG", "RGB", (128, 128))


def test_a_picture_that_the_caller_has_is_not_sent_again(api: Api, person: Callable[..., Person]) -> None:
    me = person()
    upload(api, me, picture())
    first = get(api, me)
    etag = first.headers["etag"]
    assert etag == f'"{hashlib.sha256(pixels(first)).hexdigest()}"'
    for header in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        with recorded_calls() as calls:
            answer = get(api, me, etag=header)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, "", etag)
        assert answer.headers["vary"] == first.headers["vary"] == "Authorization"
        assert not [call for call in calls if "Object" in call], "S3 is not asked"
    assert get(api, me, etag='"other"').status == 200
    upload(api, me, picture("blue"))
    assert get(api, me, etag=etag).status == 200


@pytest.mark.parametrize("v", ["", "0123456789abcdef", "x" * 64])
def test_only_under_its_own_version_a_picture_may_be_kept(api: Api, person: Callable[..., Person], v: str) -> None:
    me = person()
    upload(api, me, picture())
    answer = get(api, me, f"/users/me/avatar?v={v}")
    assert pixels(answer) == image_processing.make_avatar(picture())
    assert answer.headers["cache-control"] == ASKED_FOR


def test_a_version_too_long_to_be_one_is_invalid(api: Api, person: Callable[..., Person]) -> None:
    assert get(api, person(), f"/users/me/avatar?v={'x' * 65}").status == 422


def test_nobody_has_no_picture(api: Api, person: Callable[..., Person]) -> None:
    me, gone = person(), person()
    upload(api, gone, picture())
    gone.user.update([User.deleted.set(True)])
    for user_id in ("nobody", gone.id):
        answer = get(api, me, f"/users/{user_id}/avatar", parameters={"id": user_id})
        assert (answer.status, answer.json["code"]) == (404, "user_not_found")
    long = "x" * 65
    assert get(api, me, f"/users/{long}/avatar", parameters={"id": long}).status == 422


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [(None, 401, "unauthorized"), ("garbage", 401, "invalid_token"), ("refresh", 401, "wrong_token_type")],
)
def test_strangers_see_and_send_nothing(
    api: Api, person: Callable[..., Person], token: str | None, status: int, code: str
) -> None:
    me = person()
    used = me.refresh_token if token == "refresh" else token
    answers = [
        upload(api, None, picture(), token=used),
        upload(api, None, b"no picture", token=used),
        get(api, None, token=used),
        get(api, None, f"/users/{me.id}/avatar", token=used, parameters={"id": me.id}),
        get(api, None, "/users/nobody/avatar", token=used, parameters={"id": "nobody"}),
    ]
    assert [(answer.status, answer.json["code"]) for answer in answers] == [(status, code)] * len(answers)
    assert objects(me) == []


# What may be sent


def test_four_megabytes_pass_and_one_byte_more_does_not(api: Api, person: Callable[..., Person]) -> None:
    me, content = person(), picture()
    whole = content + b"\0" * (4 * 1024 * 1024 - len(content))
    answer = upload(api, me, whole + b"\0")
    assert (answer.status, answer.json["code"]) == (413, "file_too_large")
    assert upload(api, me, whole).status == 200


def test_the_largest_picture_fits_the_event_that_lambda_takes() -> None:
    """6 MB, of which base64 takes a third, and API Gateway's headers at most 10 KB, twice in the event."""
    body = form(('name="avatar_file"; filename="me.png"', b"\0" * image_processing.MOST_BYTES))
    assert len(base64.b64encode(body)) + 2 * 10_240 + 4_096 < 6 * 1024 * 1024


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "unsupported_picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_picture"),
        (b"%PDF-1.7", "unsupported_picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "unsupported_picture"),
        (picture()[:-40], "broken_picture"),
        (picture(kind="JPEG")[:500], "broken_picture"),
    ],
)
def test_what_is_no_whole_picture_is_refused_and_changes_nothing(
    api: Api, person: Callable[..., Person], content: bytes, code: str
) -> None:
    me = person()
    upload(api, me, picture())
    before = me.user.avatar
    answer = upload(api, me, content)
    assert (answer.status, answer.json["code"]) == (422, code)
    assert me.user.avatar == before
    assert objects(me) == named(me)


AVATAR = 'name="avatar_file"; filename="me.png"'


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data; boundary=aideer", b"", 422),
        ("multipart/form-data; boundary=aideer", b"--aideer--", 422),
        ("multipart/form-data; boundary=aideer", form(('name="other"; filename="me.png"', picture())), 422),
        ("multipart/form-data; boundary=aideer", form(('name="avatar_file"', b"text")), 422),
        ("multipart/form-data; boundary=aideer", form(('name="avatar_file"', picture())), 422),
        ("multipart/form-data; boundary=aideer", form((AVATAR, picture()), (AVATAR, picture())), 422),
        ("multipart/form-data; boundary=another", form(("x", b"1"), (AVATAR, picture())), 422),
        ("multipart/form-data; boundary=", form((AVATAR, picture())), 422),
        ("multipart/form-data", form((AVATAR, picture())), 422),
        ("multipart/form-data; boundary=aideer", form(("filename=\xff", picture())).replace(b"\xc3\xbf", b"\xff"), 422),
        ("application/x-www-form-urlencoded", b"avatar_file=text", 415),
        ("application/json", b'{"avatar_file": "text"}', 415),
        ("application/json", b"null", 415),
        ("image/png", picture(), 415),
        ("text/plain", picture(), 415),
    ],
)
def test_what_is_no_form_with_one_file_is_refused(
    api: Api, person: Callable[..., Person], content_type: str, body: bytes, status: int
) -> None:
    me = person()
    headers = {"content-type": content_type}
    answer = api("users.avatar_set", "POST", "/users/me/avatar", raw=body, user=me, headers=headers)
    assert answer.status == status
    assert answer.json["code"] in ("validation_error", "unsupported_media_type")
    assert objects(me) == []


def test_a_form_may_have_more_than_the_file(api: Api, person: Callable[..., Person]) -> None:
    body = form(
        ('name="note"', b"hello"), (AVATAR, picture()), ('name="other"; filename="x"', b"\xff"), boundary=b"----x"
    )
    headers = {"content-type": 'multipart/form-data; boundary="----x"'}
    answer = api("users.avatar_set", "POST", "/users/me/avatar", raw=body, user=person(), headers=headers)
    assert answer.status == 200


DISPOSITIONS = [
    "form-data; name=avatar_file; filename=me.png",
    'form-data; filename="me.png"; name="avatar_file"',
    "form-data;filename=me.png;name=avatar_file",
    "form-data; name=avatar_file; filename=me.png; filename*=utf-8''me.png",
    'Form-Data; Name="avatar_file"; FileName="a \\"deer\\"; name=x.png"',
    'form-data; name="avatar_file"; filename=""',
]


@pytest.mark.parametrize("disposition", DISPOSITIONS)
@pytest.mark.parametrize("header", ["Content-Disposition", "content-disposition"])
def test_a_part_may_be_described_in_every_legal_way(
    api: Api, person: Callable[..., Person], disposition: str, header: str
) -> None:
    body = b"--b\r\n%s: %s\r\n\r\n%s\r\n--b--\r\n" % (header.encode(), disposition.encode(), picture())
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = api("users.avatar_set", "POST", "/users/me/avatar", raw=body, user=person(), headers=headers)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    "content_type",
    [
        "Multipart/Form-Data; boundary=aideer",
        'MULTIPART/FORM-DATA;Boundary="aideer"',
        'multipart/form-data; charset=utf-8; boundary="aideer"',
        "multipart/form-data ; boundary=aideer; charset=utf-8",
    ],
)
@pytest.mark.parametrize("preamble", [b"", b"This is a form.\r\n", b"\r\n"])
def test_a_form_may_be_named_in_every_legal_way(
    api: Api, person: Callable[..., Person], content_type: str, preamble: bytes
) -> None:
    body = preamble + form((AVATAR, picture()))
    headers = {"content-type": content_type}
    answer = api("users.avatar_set", "POST", "/users/me/avatar", raw=body, user=person(), headers=headers)
    assert answer.status == 200, answer.body


def test_a_form_that_breaks_off_or_has_endless_parts_is_refused(api: Api, person: Callable[..., Person]) -> None:
    whole, me = form((AVATAR, picture())), person()
    headers = {"content-type": "multipart/form-data; boundary=aideer"}
    for body in (whole[:-20], form((AVATAR, picture()), *[('name="x"', b"")] * multipart.FIELDS)):
        answer = api("users.avatar_set", "POST", "/users/me/avatar", raw=body, user=me, headers=headers)
        assert (answer.status, answer.json["code"]) == (422, "validation_error")


_fuzzed: list[Person] = []


@settings(max_examples=60)
@given(st.binary(max_size=300), st.sampled_from([b"", picture()[:40], b"GIF89a", b"--aideer\r\n"]), st.booleans())
def test_no_bytes_break_it(api: Api, content: bytes, start: bytes, formed: bool) -> None:
    if not _fuzzed:
        _fuzzed.append(make_person())
    body = form((AVATAR, start + content)) if formed else start + content
    headers = {"content-type": "multipart/form-data; boundary=aideer"}
    answer = api("users.avatar_set", "POST", "/users/me/avatar", raw=body, user=_fuzzed[0], headers=headers)
    assert answer.status in (200, 422)


# What is stored


def test_what_was_replaced_is_removed_a_minute_later(api: Api, person: Callable[..., Person]) -> None:
    me = person()
    for colour in ("red", "green", "blue"):
        upload(api, me, picture(colour))
    assert len(objects(me)) == 3
    assert not [j for j in jobs.list_due(clock.now() + 50) if j.data.get("user_id") == me.id], (
        "a reader may be at the old one"
    )
    assert work_jobs(me) == 3
    assert objects(me) == named(me)
    assert pixels(get(api, me)) == image_processing.make_avatar(picture("blue"))


def test_the_same_picture_again_changes_nothing(api: Api, person: Callable[..., Person]) -> None:
    me = person()
    first = upload(api, me, picture()).json
    with recorded_calls() as calls:
        assert upload(api, me, picture()).json == first
    assert [call.split()[0] for call in calls] == ["GetItem", "UpdateItem"], "the user, and the limit"


def test_back_to_an_earlier_picture(api: Api, person: Callable[..., Person]) -> None:
    me = person()
    for colour in ("red", "green", "red"):
        upload(api, me, picture(colour))
    work_jobs(me)
    assert objects(me) == named(me)
    assert pixels(get(api, me)) == image_processing.make_avatar(picture("red"))


def test_of_many_uploads_at_once_one_picture_stays(api: Api, person: Callable[..., Person]) -> None:
    me = person()
    user = me.user
    files = [picture(colour) for colour in ("red", "green", "blue", "red", "white", "black")]
    with ThreadPoolExecutor(6) as pool:
        stored = list(pool.map(lambda file: avatars.replace(user, file), files))
    assert {one.id for one in stored} == {me.id}
    work_jobs(me)
    assert objects(me) == named(me)
    assert pixels(get(api, me)) in [image_processing.make_avatar(file) for file in files]


def test_an_upload_that_loses_to_a_deletion_leaves_nothing(
    person: Callable[..., Person], monkeypatch: pytest.MonkeyPatch, api: Api
) -> None:
    me = person()
    put = aws.get_client("s3").put_object

    def deleted_meanwhile(**arguments: Any) -> Any:
        me.user.update([User.deleted.set(True), User.token_version.add(1)])
        return put(**arguments)

    monkeypatch.setattr(aws.get_client("s3"), "put_object", deleted_meanwhile)
    answer = upload(api, me, picture())
    assert answer.status == 401
    assert User.get(me.id).avatar is None
    assert work_jobs(me) == 1
    assert objects(me) == []


def test_a_crash_after_storing_leaves_nothing(person: Callable[..., Person], monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    user = avatars.replace(me.user, picture("red"))

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(avatars, "_set_name", die)
        with pytest.raises(KeyboardInterrupt):
            avatars.replace(user, picture("blue"))
    assert len(objects(me)) == 2
    work_jobs(me)
    assert objects(me) == named(me)
    assert me.user.avatar == user.avatar


@contextlib.contextmanager
def s3_answers_lost(operation: str, times: int, *, happens: bool = True) -> Iterator[list[int]]:
    """The next calls of this S3 operation happen (or do not), and their answers never arrive."""
    left = [times]
    event = f"{'after-call' if happens else 'before-send'}.s3.{operation}"

    def lose(**_: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise ReadTimeoutError(endpoint_url="embedded")

    events = aws.get_client("s3").meta.events
    events.register_first(event, lose)
    try:
        yield left
    finally:
        events.unregister(event, lose)


def test_a_lost_request_to_s3_is_repeated(api: Api, person: Callable[..., Person]) -> None:
    me = person()
    with s3_answers_lost("PutObject", 1, happens=False) as left:
        assert upload(api, me, picture()).status == 200
    assert left == [0]
    assert objects(me) == named(me)


def test_without_an_answer_of_s3_nothing_is_named_and_nothing_stays(api: Api, person: Callable[..., Person]) -> None:
    me = person()
    with s3_answers_lost("PutObject", 5):
        answer = upload(api, me, picture())
    assert (answer.status, answer.json["code"]) == (503, "busy")
    assert me.user.avatar is None
    assert pixels(get(api, me)) == DEFAULT
    work_jobs(me)
    assert objects(me) == []


def test_a_lost_answer_of_dynamodb_is_no_loss(api: Api, person: Callable[..., Person]) -> None:
    me = person()
    with faults.answer_lost("TransactWriteItems"):
        assert upload(api, me, picture()).status == 200
    work_jobs(me)
    assert objects(me) == named(me)


def test_a_picture_that_cannot_be_read_now_is_busy_and_one_that_is_lost_is_the_default(
    api: Api, person: Callable[..., Person]
) -> None:
    me = person()
    upload(api, me, picture())
    with s3_answers_lost("GetObject", 5):
        answer = get(api, me)
    assert (answer.status, answer.json["code"]) == (503, "busy")
    [key] = objects(me)
    aws.get_client("s3").delete_object(Bucket=environment.AVATARS_BUCKET, Key=key)
    answer = get(api, me)
    assert pixels(answer) == DEFAULT
    assert answer.headers["cache-control"] == "no-store"
    assert "etag" not in answer.headers


def test_contention_that_does_not_end_is_busy(person: Callable[..., Person], monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    stale = me.user
    stale.avatar = "f" * 64 + "-never"
    monkeypatch.setattr(transactions, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(lookup, "reread_user", lambda user: stale)
    with pytest.raises(Busy):
        avatars.replace(stale, picture())


def test_the_pictures_of_who_is_gone_are_removed(person: Callable[..., Person]) -> None:
    me, other = person(), person()
    avatars.replace(other.user, picture())
    user = me.user
    for colour in ("red", "green", "blue"):
        user = avatars.replace(user, picture(colour))
    assert avatars.remove(me.id, math.inf)
    assert avatars.remove(me.id, math.inf)
    assert objects(me) == []
    assert objects(other) == named(other)
    me.user.delete()
    assert work_jobs(me) == 3


def test_a_user_who_is_deleted_leaves_no_picture(api: Api, person: Callable[..., Person]) -> None:
    me = person()
    upload(api, me, picture("red"))
    upload(api, me, picture("blue"))
    answer = api("users.delete", "DELETE", f"/users/{me.id}", user=me, parameters={"id": me.id})
    assert answer.status == 200
    assert get(api, me).status == 401
    assert work_jobs(me, "user") == 1
    assert objects(me) == []
    assert work_jobs(me) == 2


def test_its_event_is_a_picture(api: Api) -> None:
    event = json.loads((FUNCTIONS.parent / "events/users/avatar_set.json").read_text())
    body = base64.b64decode(event["body"])
    assert image_processing.make_avatar(body[body.index(b"GIF89a") : body.index(b"\r\n--aideer--")])


def test_a_job_is_written_before_the_picture(person: Callable[..., Person]) -> None:
    with recorded_calls() as calls:
        avatars.replace(person().user, picture())
    written = [call for call in calls if call.startswith(("PutItem", "PutObject", "TransactWrite"))][-3:]
    assert [call.split()[0] for call in written] == ["PutItem", "PutObject", "TransactWriteItems"]
    assert Record.Meta.table_name in written[0]
