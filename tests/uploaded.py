"""Uploads of people in tests: announced, posted as a browser posts them, and completed."""

import io
from typing import Any

import httpx
from PIL import Image

from aideer.core import aws, settings
from aideer.data.idempotency import IdempotentRequest
from aideer.data.models import Upload
from aideer.schemas.uploads import NewUpload, NewUploadResponse
from aideer.uploads import processing, uploads
from tests.support import Person
from tests.waiting import PATIENCE_SECONDS

PNG = "image/png"


def picture(kind: str = "PNG", size: tuple[int, int] = (60, 40), **more: Any) -> bytes:
    """A picture of this kind."""
    written = io.BytesIO()
    Image.new("RGB", size, "green").save(written, kind, **more)
    return written.getvalue()


def announce(owner: Person, file: bytes, media_type: str = PNG, name: str = "deer.png") -> NewUploadResponse:
    """An upload that awaits its file."""
    new = NewUpload(name=name, type=media_type, size=len(file))
    return uploads.create(owner.user, new, IdempotentRequest(owner.id, "POST /uploads", None, new))


def post(form: dict[str, Any], file: bytes, **changed: str) -> httpx.Response:
    """Post a file with a form, as a browser does. `changed` are fields that the sender has changed."""
    fields = {name: str(value) for name, value in form["fields"].items()} | changed
    with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS) as client:
        return client.post(form["url"], data=fields, files={"file": ("deer", file)})


def post_upload(owner: Person, file: bytes | None = None, media_type: str = PNG, name: str = "deer.png") -> Upload:
    """An upload with its file, which is not completed."""
    file = picture() if file is None else file
    announced = announce(owner, file, media_type, name)
    answer = post(announced.post.model_dump(), file)
    assert answer.status_code == 204, answer.text
    return uploads.get(owner.user, announced.id)


def make_upload(owner: Person, file: bytes | None = None, media_type: str = PNG, name: str = "deer.png") -> Upload:
    """An upload that is ready."""
    return processing.complete(owner.user, post_upload(owner, file, media_type, name).id)


def stored_keys(owner: Person) -> list[str]:
    """What the bucket holds of a person."""
    s3 = aws.get_client("s3")
    found = [
        s3.list_objects_v2(Bucket=settings.UPLOADS_BUCKET, Prefix=f"{folder}/{owner.id}/").get("Contents", [])
        for folder in ("incoming", "images")
    ]
    return sorted(item["Key"] for items in found for item in items)
