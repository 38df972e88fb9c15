"""The bucket of uploads as browsers reach it on a local stack: what is signed goes on, and nothing else."""

from collections.abc import Callable
from typing import Any

import httpx

from aideer.core import settings
from aideer.uploads import storage
from local.stack.uploads_door import PREFIX, UploadsDoor
from tests.support import Person, in_loop
from tests.uploaded import announce, make_upload, picture, stored_keys

MakePerson = Callable[..., Person]


def call(method: str, url: str, **more: Any) -> httpx.Response:
    """What a browser gets at the door for an address of the embedded AWS."""

    async def ask() -> httpx.Response:
        async def nothing(*_: Any) -> None:
            raise AssertionError("this is no address of the bucket")

        door = UploadsDoor(nothing, settings.AWS_ENDPOINT_URL or "", settings.UPLOADS_BUCKET)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(door), base_url="http://127.0.0.1") as client:
            answer = await client.request(method, PREFIX + url.removeprefix(settings.AWS_ENDPOINT_URL or ""), **more)
        await door._client.aclose()
        return answer

    return in_loop(ask())


def test_only_an_address_with_its_whole_signature_shows_an_image(person: MakePerson) -> None:
    url = storage.sign_image(make_upload(person())).url
    assert call("GET", url).status_code == 200
    address, _, query = url.partition("?")
    signed = query.split("&")
    assert call("GET", address).status_code == 403
    for left_out in (part for part in signed if part.startswith("X-Amz-")):
        less = "&".join(part for part in signed if part != left_out)
        assert call("GET", f"{address}?{less}").status_code == 403, left_out
    assert call("GET", f"{address}?X-Amz-Signature=made-up").status_code == 403
    assert call("GET", f"{url[:-4]}0000").status_code == 403


def test_only_a_form_with_its_whole_signature_posts_a_file(person: MakePerson) -> None:
    me = person()
    post = announce(me, picture()).post
    for left_out in ("policy", "x-amz-signature", "x-amz-algorithm", "x-amz-credential", "x-amz-date"):
        fields = {name: value for name, value in post.fields.items() if name != left_out}
        answer = call("POST", post.url, data=fields, files={"file": ("deer", picture())})
        assert answer.status_code == 403, left_out
    unsigned = call("POST", post.url, data={"key": f"images/{me.id}/x"}, files={"file": ("x", b'name="policy"')})
    assert unsigned.status_code == 403
    assert stored_keys(me) == []
    assert call("POST", post.url, data=post.fields, files={"file": ("deer", picture())}).status_code == 204
    assert len(stored_keys(me)) == 1
