"""Addresses of images: what may be sent to the provider, and in what shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aideer.core.errors import Unprocessable
from aideer.prompts import image_urls

GOOD = [
    "https://example.com/a.png",
    "https://example.com",
    "https://example.com?x=1",
    "https://EXAMPLE.com/A.PNG",
    "https://cdn-1.example.co.uk:8443/a/b/c.jpeg?sign=a%2Fb%3D&t=1#top",
    "https://aideer.oss-cn-beijing.aliyuncs.com/%E7%8C%AB.webp?OSSAccessKeyId=x&Expires=1&Signature=a~b.c_d-e",
    "https://a_b.example.com/(1)/!$&'*+,;=:@.png",
    "https://xn--fiqs8s.xn--fiqs8s/a.png",
    "https://127.0.0.1.example.com/a.png",
    "https://example.com/" + "a" * (2048 - 20),
]
BAD = [
    "",
    "cat.png",
    "/etc/hostname",
    "//example.com/a.png",
    "http://example.com/a.png",
    "HTTPS://example.com/a.png",
    "https:/example.com/a.png",
    "https:example.com/a.png",
    "https:///a.png",
    "https://",
    "https://:443/a.png",
    "file:///etc/hostname",
    "file://example.com/etc/hostname",
    "ftp://example.com/a.png",
    "oss://bucket/a.png",
    "data:image/png;base64,iVBORw0KGgo=",
    "javascript:alert(1)",
    "https://user@example.com/a.png",
    "https://user:password@example.com/a.png",
    "https://example.com@127.0.0.1/a.png",
    "https://example.com\\@127.0.0.1/a.png",
    "https://127.0.0.1\\.example.com/a.png",
    " https://example.com/a.png",
    "https://example.com/a.png ",
    "https://example.com/a b.png",
    "https://example.com/a.png\n",
    "https://example.com/a\tb.png",
    "https://example.com/a\r\nHost: x",
    "https://exa\x00mple.com/a.png",
    "https://exam\u200bple.com/a.png",
    "https://例子.测试/a.png",
    "https://example.com/猫.png",
    "https://ⓔxample.com/a.png",
    "https://example\u3002com/a.png",
    "https://example.com/a.png?x=<script>",
    'https://example.com/"',
    "https://example.com/%zz",
    "https://example.com/%2",
    "https://example.com:0/a.png",
    "https://example.com:65536/a.png",
    "https://example.com:/a.png",
    "https://example.com:80a/a.png",
    "https://localhost/a.png",
    "https://localhost./a.png",
    "https://example.com./a.png",
    "https://app.localhost/a.png",
    "https://printer.local/a.png",
    "https://metadata.google.internal/computeMetadata/v1/",
    "https://instance-data.ec2.internal/latest/meta-data/",
    "https://1.0.0.127.in-addr.arpa/",
    "https://intranet/a.png",
    "https://.example.com/a.png",
    "https://example..com/a.png",
    "https://-example.com/a.png",
    "https://example.c/a.png",
    "https://" + "a" * 64 + ".com/a.png",
    # IP addresses, however they are written: none has a certificate that one would put images behind
    "https://127.0.0.1/a.png",
    "https://10.0.0.1/a.png",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.100.100.200/latest/meta-data/",
    "https://192.168.1.1/a.png",
    "https://8.8.8.8/a.png",
    "https://127.1/a.png",
    "https://2130706433/a.png",
    "https://0x7f000001/a.png",
    "https://0x7f.0.0.1/a.png",
    "https://127.0.0.0x1/a.png",
    "https://0177.0.0.1/a.png",
    "https://[::1]/a.png",
    "https://[::ffff:127.0.0.1]/a.png",
    "https://[fd00::1]/a.png",
    "https://[fe80::1%25eth0]/a.png",
    "https://[2001:db8::1]:443/a.png",
    "https://example.com/" + "a" * (2049 - 20),
]


@pytest.mark.parametrize("address", GOOD)
def test_a_public_https_address_is_an_image(address: str) -> None:
    image_urls.check("user", address)


@pytest.mark.parametrize("address", BAD)
def test_anything_else_is_none(address: str) -> None:
    with pytest.raises(Unprocessable) as raised:
        image_urls.check("user", address)
    assert raised.value.code == "invalid_image_url"


@pytest.mark.parametrize("role", ["assistant", "system"])
def test_only_the_user_sends_images(role: str) -> None:
    with pytest.raises(Unprocessable) as raised:
        image_urls.check(role, GOOD[0])
    assert raised.value.code == "image_not_users"


@given(st.one_of(st.text(), st.text().map("https://".__add__), st.from_regex(r"https://[a-z0-9.:@\[\]/\\]{0,30}")))
def test_what_is_taken_has_one_reading(address: str) -> None:
    """Whatever is accepted, the strictest and the laxest parsers of Python see the same public host in it."""
    from urllib.parse import urlsplit

    import httpx
    from yarl import URL

    try:
        image_urls.check("user", address)
    except Unprocessable:
        return
    hosts = {urlsplit(address).hostname, httpx.URL(address).host, URL(address).host}
    assert len(hosts) == 1
    assert "." in str(hosts.pop())
    assert address.isascii()
    assert urlsplit(address).username is None


IMAGE = "https://example.com/a.png"


@pytest.mark.parametrize(
    ("messages", "sent"),
    [
        ([], []),
        (["user text a"], [("user", "a")]),
        (["user text a", "user text b"], [("user", "a"), ("user", "b")]),
        (["user image i"], [("user", [{"image": "i"}])]),
        (["user image i", "user text a"], [("user", [{"image": "i"}, {"text": "a"}])]),
        (["user text a", "user image i"], [("user", [{"text": "a"}, {"image": "i"}])]),
        (
            ["system text s", "user text a", "user image i", "user image j", "user text b", "user text c"],
            [
                ("system", "s"),
                ("user", [{"text": "a"}, {"image": "i"}, {"image": "j"}, {"text": "b"}, {"text": "c"}]),
            ],
        ),
        (
            ["user image i", "assistant text a", "user text b", "user image j"],
            [("user", [{"image": "i"}]), ("assistant", "a"), ("user", [{"text": "b"}, {"image": "j"}])],
        ),
        (
            ["user text a", "user text b", "user image i"],
            [("user", "a"), ("user", [{"text": "b"}, {"image": "i"}])],
        ),
    ],
)
def test_an_image_and_what_is_said_with_it_are_one_message(messages: list[str], sent: list[tuple[str, object]]) -> None:
    given = [tuple(message.split()) for message in messages]
    parts = image_urls.to_parts((role, kind, content) for role, kind, content in given)
    assert [(part["role"], part["content"]) for part in parts] == sent
