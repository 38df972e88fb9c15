"""What strangers see of a user: the nickname, never the name to sign in with, and a picture that an `<img>` can show."""

import io
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aideer.accounts import avatars
from aideer.core import aws, settings
from aideer.data.models import User
from aideer.security import public_names
from tests.support import Answer, Api, Person, recorded_calls

MakePerson = Callable[..., Person]


def upload(person: Person, colour: str = "green") -> User:
    held = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(held, "PNG")
    return avatars.replace(person.user, held.getvalue())


def seen(api: Api, viewer: Person, person: Person) -> dict[str, Any]:
    found: dict[str, Any] = api(
        "users.get", "GET", f"/users/{person.id}", user=viewer, parameters={"id": person.id}
    ).json
    return found


def load(api: Api, url: str, **headers: str) -> Answer:
    """What a browser gets for an `<img>`: it sends no token."""
    path = urlsplit(url).path
    _, _, _, _, user_id, _, name = path.split("/")
    sent = {key.replace("_", "-"): value for key, value in headers.items()}
    return api("users.avatar_public", "GET", path, headers=sent, parameters={"id": user_id, "name": name})


# Names


def test_a_nickname_is_shown_and_the_name_to_sign_in_with_is_not(api: Api, person: MakePerson) -> None:
    me, stranger, admin = person(), person(), person(2)
    api("users.update", "PUT", "/users/me", json={"nickname": "Fawn"}, user=me, parameters={"id": "me"})
    assert seen(api, stranger, me)["nickname"] == "Fawn"
    assert me.username not in str(seen(api, stranger, me))
    assert (seen(api, admin, me)["nickname"], seen(api, admin, me)["username"]) == ("Fawn", me.username)


def test_who_chose_no_nickname_has_a_neutral_name_for_strangers(api: Api, person: MakePerson) -> None:
    me, stranger, admin = person(), person(), person(2)
    assert me.user.nickname == me.username
    shown = seen(api, stranger, me)
    assert me.username not in str(shown)
    assert shown["nickname"].startswith("user-")
    assert shown == seen(api, person(), me), "and always the same one"
    assert seen(api, admin, me)["nickname"] == seen(api, me, me)["nickname"] == me.username


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(names, st.sampled_from([str.upper, str.lower, str.title, str.casefold, lambda name: f" {name} "]))
def test_always_no_spelling_of_the_username_is_shown(name: str, spell: Callable[[str], str]) -> None:
    user = User("u-1", username=name, nickname=spell(name))
    shown = public_names.get_public_name(user)
    folded = public_names._fold
    assert folded(shown) != folded(name) or folded(user.nickname) != folded(name)
    assert shown == user.nickname or shown.startswith("user-")


def test_who_came_by_wechat_and_has_no_username_keeps_the_nickname() -> None:
    assert public_names.get_public_name(User("u-1", nickname="微信用户ABCDEF")) == "微信用户ABCDEF"


# Pictures


def test_a_picture_has_an_address_that_needs_no_token(api: Api, person: MakePerson) -> None:
    me, stranger = person(), person()
    assert seen(api, stranger, me)["avatar_url"] is None
    upload(me)
    url = seen(api, stranger, me)["avatar_url"]
    assert url == seen(api, me, me)["avatar_url"]
    assert url.startswith("https://api.test/api/v1/users/")
    assert not urlsplit(url).query
    with recorded_calls() as calls:
        answer = load(api, url)
    assert calls == ["GetObject"]
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert answer.headers["cache-control"] == f"public, max-age={7 * 86400}, immutable"
    assert answer.headers["vary"] == "Origin", "API Gateway names the page's origin, so a cache keeps a copy for each"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.body.startswith("\xff\xd8")
    assert load(api, url, if_none_match=answer.headers["etag"]).status == 304


def test_a_domain_is_in_the_address(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    upload(me)
    monkeypatch.setattr(settings, "PUBLIC_BASE_URL", "https://deer.example")
    assert seen(api, me, me)["avatar_url"].startswith("https://deer.example/api/v1/users/")


def test_another_picture_has_another_address_and_the_old_one_ends(api: Api, person: MakePerson) -> None:
    me = person()
    old = avatars.get_url(upload(me))
    new = avatars.get_url(upload(me, "red"))
    again = avatars.get_url(upload(me))
    assert old
    assert new
    assert again
    assert len({old, new, again}) == 3
    avatars.remove_unnamed(me.id, tuple(url.rpartition("/")[2] for url in (old, new)))
    answer = load(api, old)
    assert (answer.status, answer.json["code"], answer.headers["cache-control"]) == (
        404,
        "avatar_not_found",
        "private, no-store",
    )
    assert load(api, again).status == 200


def test_pictures_of_a_deleted_user_are_gone(api: Api, person: MakePerson) -> None:
    me = person()
    url = avatars.get_url(upload(me))
    assert url
    etag = load(api, url).headers["etag"]
    assert avatars.remove(me.id, math.inf)
    assert load(api, url).status == 404
    assert load(api, url, if_none_match=etag).status == 404


def test_an_address_is_not_guessed_from_the_picture_or_the_user(api: Api, person: MakePerson) -> None:
    me, other = person(), person()
    one, two = upload(me), upload(other)
    assert one.avatar[:64] == two.avatar[:64], "the same picture"
    assert one.avatar != two.avatar
    assert load(api, f"https://x/api/v1/users/{me.id}/avatars/{two.avatar}").status == 404
    for name in (one.avatar[:64], one.avatar[:-1], "..", "a" * 101, f"{one.avatar}.jpg"):
        assert load(api, f"https://x/api/v1/users/{me.id}/avatars/{name}").status in (404, 422)


def test_an_outage_is_no_missing_picture(api: Api, person: MakePerson, monkeypatch: pytest.MonkeyPatch) -> None:
    me = person()
    url = avatars.get_url(upload(me))
    assert url

    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="s3")

    monkeypatch.setattr(aws.get_client("s3"), "get_object", fail)
    assert load(api, url).status == 503
