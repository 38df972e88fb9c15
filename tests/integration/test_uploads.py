"""Uploads: which file a form takes, what is made of it, who sees it, and that nothing stays that no chat uses."""

import io
import json
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from PIL import Image

from aideer.core import aws, clock
from aideer.core import settings as environment
from aideer.data import jobs, lookup
from aideer.data.base import new_id
from aideer.data.models import Record, Upload
from aideer.schemas.uploads import NewUpload
from aideer.security import limits, rate_limits
from aideer.security.limits import Kind, Limit
from aideer.uploads import kinds, pictures, processing, redrawing, references, storage, uploads
from jobs import run
from tests.support import Answer, Api, Context, Person
from tests.uploaded import PNG, announce, make_upload, picture, post, post_upload, stored_keys
from tests.waiting import PATIENCE_SECONDS

MakePerson = Callable[..., Person]
GPS, MAKE, ORIENTATION = 0x8825, 0x010F, 0x0112


def create(
    api: Api, user: Person, size: int = 100, media_type: str = PNG, key: str | None = None, **more: Any
) -> Answer:
    headers = {"idempotency-key": key} if key else {}
    body = {"name": "deer.png", "type": media_type, "size": size, **more}
    return api("uploads.create", "POST", "/uploads", json=body, user=user, headers=headers)


def complete(api: Api, user: Person, upload_id: str) -> Answer:
    path = f"/uploads/{upload_id}/complete"
    return api("uploads.complete", "POST", path, user=user, parameters={"id": upload_id})


def get(api: Api, user: Person, upload_id: str) -> Answer:
    return api("uploads.get", "GET", f"/uploads/{upload_id}", user=user, parameters={"id": upload_id})


def delete(api: Api, user: Person, upload_id: str) -> Answer:
    return api("uploads.delete", "DELETE", f"/uploads/{upload_id}", user=user, parameters={"id": upload_id})


def upload(api: Api, user: Person, file: bytes, media_type: str = PNG) -> Answer:
    """The answer to the whole way of a file: announced, posted and completed."""
    announced = create(api, user, len(file), media_type).json
    assert post(announced["post"], file).status_code == 204
    return complete(api, user, announced["id"])


def fetch(url: str) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS) as client:
        return client.get(url)


def work_jobs(*ids: str, later: float = uploads.KEPT_SECONDS + 3600) -> None:
    """Work the jobs of these uploads that are due by then, as the queue has them worked."""
    for job in list(jobs.list_due(clock.now() + later)):
        if job.data["kind"] == "upload" and job.data["upload_id"] in ids:
            message = {"messageId": "1", "body": json.dumps({"pk": job.pk, "sk": job.sk})}
            assert run.handler({"Records": [message]}, Context()) == {"batchItemFailures": []}


def count_open(user: Person) -> int:
    found = lookup.find(Record, *references.count_key(user.id))
    return int(found.uses) if found else 0


@pytest.fixture
def days_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock of the product so many seconds on."""
    now = clock.now

    def move(seconds: float) -> None:
        monkeypatch.setattr(clock, "now", lambda: now() + seconds)

    return move


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[Kind, Limit], None]:
    def set_limit(kind: Kind, limit: Limit) -> None:
        monkeypatch.setitem(limits.LIMITS, kind, limit)
        monkeypatch.setitem(rate_limits.LIMITS, kind, limit)

    return set_limit


# The way of a file


def test_a_picture_is_announced_posted_completed_and_shown(api: Api, person: MakePerson) -> None:
    me, file = person(), picture()
    announced = create(api, me, len(file))
    assert announced.status == 200
    assert (announced.json["status"], announced.json["kind"]) == ("pending", "image")
    assert "url" not in announced.json
    assert post(announced.json["post"], file).status_code == 204
    done = complete(api, me, announced.json["id"])
    assert done.status == 200, done.body
    assert done.json["status"] == "ready"
    assert done.json["content"] == f"upload:{done.json['id']}"
    assert (done.json["width"], done.json["height"]) == (60, 40)
    shown = fetch(done.json["url"])
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(shown.content)) as image:
        assert (image.format, image.size) == ("JPEG", (60, 40))
    assert get(api, me, done.json["id"]).json["status"] == "ready"
    assert stored_keys(me) == [f"images/{me.id}/{done.json['id']}"], "the posted file is gone"


@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", "image/jpeg"), ("WEBP", "image/webp"), ("GIF", "image/gif")])
def test_each_type_becomes_a_jpeg(api: Api, person: MakePerson, kind: str, media_type: str) -> None:
    done = upload(api, person(), picture(kind), media_type)
    assert (done.status, done.json["type"]) == (200, media_type)
    assert fetch(done.json["url"]).content.startswith(b"\xff\xd8\xff")


def test_an_animation_gives_its_first_frame(api: Api, person: MakePerson) -> None:
    written = io.BytesIO()
    frames = [Image.new("RGB", (30, 30), colour) for colour in ("red", "blue")]
    frames[0].save(written, "GIF", save_all=True, append_images=frames[1:])
    done = upload(api, person(), written.getvalue(), "image/gif")
    with Image.open(io.BytesIO(fetch(done.json["url"]).content)) as image:
        red, _, blue = image.getpixel((15, 15))  # type: ignore[misc]
    assert red > 200 > 50 > blue


def test_the_place_and_all_other_metadata_of_a_photo_are_gone(api: Api, person: MakePerson) -> None:
    exif = Image.Exif()
    exif[MAKE] = "SecretCamera"
    exif.get_ifd(GPS).update({1: "N", 2: (47.0, 22.0, 1.0), 3: "E", 4: (8.0, 32.0, 2.0)})
    file = picture("JPEG", exif=exif, comment=b"SecretComment")
    assert b"SecretCamera" in file
    done = upload(api, person(), file, "image/jpeg")
    shown = fetch(done.json["url"]).content
    with Image.open(io.BytesIO(shown)) as image:
        assert not image.getexif()
        assert not image.getexif().get_ifd(GPS)
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert b"Secret" not in shown
    assert b"Exif" not in shown


def test_a_photo_is_upright_and_no_larger_than_models_see(api: Api, person: MakePerson) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # held upright
    done = upload(api, person(), picture("JPEG", (3000, 1500), exif=exif), "image/jpeg")
    assert (done.json["width"], done.json["height"]) == (redrawing.MOST_SIDE // 2, redrawing.MOST_SIDE)


def test_completing_twice_has_no_second_effect(api: Api, person: MakePerson) -> None:
    me = person()
    first = complete(api, me, post_upload(me).id)
    second = complete(api, me, first.json["id"])
    assert (first.status, second.status) == (200, 200)
    assert {**first.json, "url": "", "url_expires_at": ""} == {**second.json, "url": "", "url_expires_at": ""}


def test_of_requests_at_once_one_processes_the_file(api: Api, person: MakePerson) -> None:
    me = person()
    waiting = post_upload(me)
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: _complete(me, waiting.id), range(4)))
    assert set(answers) <= {"ready", "upload_processing"}
    assert "ready" in answers
    assert get(api, me, waiting.id).json["status"] == "ready"


@pytest.mark.parametrize("moment", ["before the file is read", "after the file is read"])
def test_a_request_whose_file_another_has_just_processed_gets_its_result(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    me = person()
    waiting = post_upload(me)
    read = storage.read_incoming

    def read_beside_another(found: Upload) -> bytes | None:
        monkeypatch.setattr(storage, "read_incoming", read)
        file = read(found) if moment == "after the file is read" else None
        assert complete(api, me, waiting.id).status == 200  # the other request
        return file or read(found)

    monkeypatch.setattr(storage, "read_incoming", read_beside_another)
    answer = complete(api, me, waiting.id)
    assert (answer.status, answer.json["status"]) == (200, "ready")


def _complete(me: Person, upload_id: str) -> str:
    try:
        return str(processing.complete(me.user, upload_id).status)
    except processing.Conflict as refusal:
        return refusal.code


def test_a_request_that_broke_off_is_no_obstacle_for_ever(
    api: Api, person: MakePerson, days_later: Callable[[float], None]
) -> None:
    me = person()
    waiting = post_upload(me)
    processing._claim(waiting)
    refused = complete(api, me, waiting.id)
    assert (refused.status, refused.json["code"]) == (409, "upload_processing")
    days_later(processing.CLAIM_SECONDS + 1)
    assert complete(api, me, waiting.id).status == 200


def test_a_repeated_announcement_with_its_key_is_one_upload(api: Api, person: MakePerson) -> None:
    me, key = person(), new_id()
    first, second = create(api, me, key=key), create(api, me, key=key)
    assert first.json["id"] == second.json["id"]
    assert count_open(me) == 1
    photo = picture()
    done = create(api, me, len(photo), key=(later := new_id()))
    post(done.json["post"], photo)
    complete(api, me, done.json["id"])
    assert fetch(create(api, me, len(photo), key=later).json["url"]).status_code == 200, "it is ready by now"
    reused = create(api, me, size=101, key=key)
    assert (reused.status, reused.json["code"]) == (422, "idempotency_key_reused")


# What a form takes


def test_a_form_takes_its_own_file_alone(person: MakePerson) -> None:
    me, other, file = person(), person(), picture()
    form = announce(me, file).post.model_dump()
    assert post(form, file + b"x").status_code == 400, "larger than declared"
    assert post(form, file[:-1]).status_code == 400, "smaller than declared"
    for field, value in (
        ("Content-Type", "text/html"),
        ("key", f"incoming/{other.id}/{new_id()}"),
        ("key", f"images/{me.id}/{new_id()}"),
    ):
        assert post(form, file, **{field: value}).status_code == 403, field
    assert stored_keys(me) == stored_keys(other) == []
    assert post(form, file).status_code == 204


def test_types_and_sizes_that_are_not_taken_are_named(api: Api, person: MakePerson) -> None:
    me = person()
    wrong = create(api, me, media_type="image/svg+xml")
    assert (wrong.status, wrong.json["code"]) == (415, "unsupported_upload")
    assert "image/webp" in wrong.json["detail"]
    large = create(api, me, size=kinds.MOST_BYTES + 1)
    assert (large.status, large.json["code"]) == (413, "file_too_large")
    assert create(api, me, size=0).status == 422
    assert create(api, me, name="a\nb").status == 422
    assert count_open(me) == 0


def test_a_file_that_was_not_posted_is_missing(api: Api, person: MakePerson) -> None:
    me = person()
    answer = complete(api, me, create(api, me).json["id"])
    assert (answer.status, answer.json["code"]) == (409, "upload_missing")


# What is verified


def _png(width: int, height: int) -> bytes:
    """A PNG whose header says this size, over almost no data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("file", "media_type", "code"),
    [
        (picture("JPEG"), PNG, "wrong_file_type"),
        (b"<html>hello</html>", PNG, "wrong_file_type"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "image/jpeg", "wrong_file_type"),
        (picture()[:60], PNG, "broken_picture"),
        (_png(50_000, 50_000), PNG, "too_many_pixels"),
        (picture(size=(10, 10)), PNG, "picture_too_narrow"),
        (picture(size=(4000, 15)), PNG, "picture_too_narrow"),
    ],
    ids=["a lying type", "a page", "a program", "cut off", "a bomb", "tiny", "a line"],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_reason_and_removed(
    api: Api, person: MakePerson, file: bytes, media_type: str, code: str
) -> None:
    me = person()
    refused = upload(api, me, file, media_type)
    assert (refused.status, refused.json["code"]) == (422, code)
    [listed] = api("uploads.list", "GET", "/uploads", user=me).json
    assert (listed["status"], listed["error"]) == ("failed", {"code": code, "message": refused.json["detail"]})
    assert complete(api, me, listed["id"]).json == refused.json, "it stays refused"
    assert stored_keys(me) == []
    assert count_open(me) == 0


def test_a_file_that_was_changed_behind_the_form_is_refused(api: Api, person: MakePerson) -> None:
    me = person()
    waiting = post_upload(me)
    key = f"incoming/{me.id}/{waiting.id}"
    aws.get_client("s3").put_object(Bucket=environment.UPLOADS_BUCKET, Key=key, Body=picture() + b"more")
    assert complete(api, me, waiting.id).json["code"] == "wrong_file_size"


# Whose it is


def test_an_upload_is_its_owners_alone(api: Api, person: MakePerson) -> None:
    me = person()
    mine = make_upload(me)
    for other in (person(), person(permission=2)):
        for call in (get, complete, delete):
            answer = call(api, other, mine.id)
            assert (answer.status, answer.json["code"]) == (404, "upload_not_found")
        assert api("uploads.list", "GET", "/uploads", user=other).json == []
    assert get(api, me, mine.id).status == 200


def test_the_list_has_pages_with_the_newest_first(api: Api, person: MakePerson) -> None:
    me = person()
    made = [*(announce(me, b"x").id for _ in range(4)), make_upload(me).id]
    found, cursor = [], ""
    while True:
        page = api("uploads.list", "GET", f"/uploads?limit=2{cursor}", user=me)
        found += [item["id"] for item in page.json]
        if "x-next-cursor" not in page.headers:
            break
        cursor = f"&cursor={page.headers['x-next-cursor']}"
    assert found == made[::-1]
    foreign = api("uploads.list", "GET", "/uploads?cursor=WyJjaGF0cyIsIngiXQ", user=me)
    assert (foreign.status, foreign.json["code"]) == (422, "invalid_cursor")


def test_texts_of_listed_documents_count_as_reading(
    api: Api, person: MakePerson, limited: Callable[[Kind, Limit], None]
) -> None:
    limited("read", Limit(500, 3600))
    me, other = person(), person()
    for owner in (me, other):
        made = [make_upload(owner, b"deer " * 50_000, "text/plain", "deer.txt") for _ in range(2)]
    assert [api("uploads.list", "GET", "/uploads", user=me).status for _ in range(3)] == [200, 200, 429]
    assert [get(api, other, made[0].id).status for _ in range(4)] == [200, 200, 200, 429]


def test_an_address_of_an_image_expires(api: Api, person: MakePerson) -> None:
    shown = get(api, person_ := person(), make_upload(person_).id).json
    assert f"X-Amz-Expires={storage.GET_SECONDS}" in shown["url"]
    unsigned = shown["url"].partition("?")[0]
    assert clock.parse(shown["url_expires_at"]) <= clock.now() + storage.GET_SECONDS
    assert unsigned.endswith(f"/images/{person_.id}/{shown['id']}")


# What stays


def test_a_hundred_unused_uploads_are_gone_after_a_day(person: MakePerson, days_later: Callable[[float], None]) -> None:
    me = person()
    made = [announce(me, b"x").id for _ in range(uploads.OPEN - 3)]
    made += [make_upload(me).id, make_upload(me).id, post_upload(me).id]
    assert count_open(me) == uploads.OPEN
    with pytest.raises(uploads.TooManyRequests) as refused:
        announce(me, b"x")
    assert refused.value.code == "too_many_open_uploads"
    work_jobs(*made, later=uploads.KEPT_SECONDS - 60)
    assert len(stored_keys(me)) == 3, "not yet"
    days_later(uploads.KEPT_SECONDS + 120)
    with pytest.raises(uploads.NotFound):
        uploads.get(me.user, made[0])
    work_jobs(*made)
    assert stored_keys(me) == []
    assert not [upload_id for upload_id in made if lookup.find(Upload, upload_id)]
    assert count_open(me) == 0


def test_an_expired_upload_cannot_be_completed_or_seen(
    api: Api, person: MakePerson, days_later: Callable[[float], None]
) -> None:
    me = person()
    waiting, ready = post_upload(me), make_upload(me)
    days_later(uploads.KEPT_SECONDS + 1)
    token = person().token  # the clock has moved: an old token is no good
    assert token
    for upload_id in (waiting.id, ready.id):
        with pytest.raises(uploads.NotFound):
            processing.complete(me.user, upload_id)
    assert uploads.list_page(me.user, limit=10, cursor=None, offset=0) == ([], None)


def test_a_deleted_upload_leaves_nothing(api: Api, person: MakePerson) -> None:
    me = person()
    mine = make_upload(me)
    assert delete(api, me, mine.id).status == 200
    assert stored_keys(me) == []
    assert count_open(me) == 0
    for call in (get, complete, delete):
        assert call(api, me, mine.id).status == 404
    work_jobs(mine.id)
    assert lookup.find(Upload, mine.id) is None


def test_a_file_that_is_stored_during_the_deletion_leaves_nothing(
    api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = person()
    waiting = post_upload(me)
    redraw = pictures.redraw

    def deleted_meanwhile(*arguments: Any) -> Any:
        uploads.delete(me.user, waiting.id)
        return redraw(*arguments)

    monkeypatch.setattr(pictures, "redraw", deleted_meanwhile)
    assert complete(api, me, waiting.id).status == 404
    assert stored_keys(me) == []


def test_the_document_of_the_api_names_each_type() -> None:
    told = str(NewUpload.model_fields["type"].description)
    assert [media_type for media_type in kinds.TYPES if media_type not in told] == []


def test_limits_of_a_day_are_counts_and_bytes(
    api: Api, person: MakePerson, limited: Callable[[Kind, Limit], None]
) -> None:
    limited("upload", Limit(2, 86400))
    me = person()
    assert [create(api, me).status for _ in range(3)] == [200, 200, 429]
    limited("upload", Limit(200, 86400))
    limited("upload_size", Limit(5_000, 86400))
    other = person()
    assert [create(api, other, size=kinds.MOST_BYTES).status for _ in range(2)] == [200, 429]
    refused = create(api, other)
    assert (refused.json["code"], int(refused.headers["retry-after"]) > 0) == ("too_many_uploads", True)
