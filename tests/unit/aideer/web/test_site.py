"""The files of the web client: what is served at which address, with which headers, from sources and from a packed build."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from aideer.core import settings
from aideer.web import site
from aideer.web.site import Site

INDEX = '<!doctype html><head><script type="module" src="/web/page/main.js"></script>\n</head><body>A deer</body>'
SOURCES = {
    "index.html": INDEX,
    "admin.html": '<!doctype html><head><link rel="stylesheet" href="/web/styles/a.css"></head>',
    "page/main.js": 'import { a } from "../shared/a.js";\nimport("../shared/later.js");\nconst x = "import y from \'./no.js\'";',
    "shared/a.js": 'import b from"./b.js";export*from"./c.js";export { d } from \'../shared/d.js\'',
    "shared/b.js": 'import "./a.js";',
    "shared/c.js": "import {\n  d,\n} from './d.js';",
    "shared/d.js": "export const d = 1;",
    "shared/later.js": "export {};",
    "styles/a.css": "body { color: #123 }",
    "icons/deer.svg": "<svg/>",
    "vendor/VENDOR.json": "{}",
    "vendor/licenses/a.txt": "MIT 🦌",
    "vendor/a.d.ts": "export {};",
    "notes.md": "not served",
}


def write(folder: Path, sources: dict[str, str]) -> Path:
    """The handler's folder with these sources."""
    for name, text in sources.items():
        path = folder / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(params=["sources", "packed"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """The site, from its sources and as the build packs it."""
    folder = write(tmp_path / "web", SOURCES)
    if request.param == "sources":
        return site.load(folder)
    site.pack(folder / "site", tmp_path / "built")
    return site.load(tmp_path / "built")


def get(made: Site, path: str, **headers: str) -> dict[str, Any]:
    """The response to GET this path."""
    answer = site.respond(made, path, {name.replace("_", "-"): value for name, value in headers.items()})
    assert answer is not None, path
    return answer


def body_of(answer: dict[str, Any]) -> str:
    raw = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else answer["body"].encode()
    return (gzip.decompress(raw) if answer["headers"].get("Content-Encoding") == "gzip" else raw).decode()


@pytest.mark.parametrize(
    ("path", "content_type", "name"),
    [
        ("/admin", "text/html; charset=utf-8", "admin.html"),
        ("/s/Ab-9_", "text/html; charset=utf-8", "index.html"),
        ("/web/page/main.js", "text/javascript; charset=utf-8", "page/main.js"),
        ("/web/styles/a.css", "text/css; charset=utf-8", "styles/a.css"),
        ("/web/icons/deer.svg", "image/svg+xml", "icons/deer.svg"),
        ("/web/vendor/VENDOR.json", "application/json", "vendor/VENDOR.json"),
        ("/web/vendor/licenses/a.txt", "text/plain; charset=utf-8", "vendor/licenses/a.txt"),
    ],
)
@pytest.mark.parametrize("accepted", ["gzip, br", "identity", ""])
def test_a_file_has_its_exact_type_and_its_content_in_each_coding(
    made: Site, path: str, content_type: str, name: str, accepted: str
) -> None:
    answer = get(made, path, accept_encoding=accepted)
    assert answer["statusCode"] == 200
    assert answer["headers"]["Content-Type"] == content_type
    assert answer["headers"]["X-Content-Type-Options"] == "nosniff"
    assert answer["headers"].get("Content-Encoding") == ("gzip" if "gzip" in accepted else None)
    assert answer["isBase64Encoded"] == ("gzip" in accepted)
    if name == "index.html":
        assert body_of(answer) == body_of(get(made, "/"))
    else:
        version = f"{made.version}/" if name == "admin.html" else ""
        assert body_of(answer) == SOURCES[name].replace("/web/", f"/web/{version}")


def test_a_page_names_its_files_by_the_version_and_lists_each_imported_module_once(made: Site) -> None:
    page = body_of(get(made, "/"))
    addresses = re.findall(r'"/web/([0-9a-f]{12})/([^"]+)"', page)
    assert {version for version, _ in addresses} == {made.version}
    names = [name for _, name in addresses]
    assert names == ["page/main.js", "shared/a.js", "shared/b.js", "shared/c.js", "shared/d.js"]
    assert page.count("modulepreload") == 4
    for version, name in addresses:
        assert get(made, f"/web/{version}/{name}")["statusCode"] == 200


def test_a_file_of_the_current_version_is_kept_for_ever_and_all_else_is_asked_for_again(made: Site) -> None:
    assert get(made, f"/web/{made.version}/page/main.js")["headers"]["Cache-Control"] == site.FOR_EVER
    for path in ("/", "/admin", "/web/page/main.js", "/web/0123456789ab/page/main.js"):
        assert get(made, path)["headers"]["Cache-Control"] == site.ASK_AGAIN


def test_a_page_of_an_earlier_version_still_gets_the_file_of_a_name(made: Site) -> None:
    assert body_of(get(made, "/web/0123456789ab/shared/later.js")) == SOURCES["shared/later.js"]


@pytest.mark.parametrize("path", ["/", "/web/page/main.js"])
@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_the_tag_confirms_the_bytes_of_its_coding_alone(made: Site, path: str, accepted: str) -> None:
    answer = get(made, path, accept_encoding=accepted)
    tag = answer["headers"]["ETag"]
    again = get(made, path, accept_encoding=accepted, if_none_match=tag)
    assert (again["statusCode"], again["body"]) == (304, "")
    assert again["headers"].keys() <= answer["headers"].keys()
    other = "identity" if accepted == "gzip" else "gzip"
    assert get(made, path, accept_encoding=other, if_none_match=tag)["statusCode"] == 200
    assert answer["headers"]["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "path",
    [
        "/web/",
        "/web/nothing.js",
        "/web/index.html",  # a page without its headers
        "/web/0123456789ab/index.html",
        "/web/../file.py",
        "/web/page/../page/main.js",
        "/web//page/main.js",
        "/web/%2e%2e/file.py",
        "/web/..%2ffile.py",
        "/web/page\\main.js",
        "/web/page/main.js/",
        "/web/page/main.js\0",
        "/web/page",
        "/web/site/page/main.js",
        "/web/notes.md",
        "/web/vendor/a.d.ts",
        "/web/site.json",
        "/admin/",
        "/s/",
        "/s/a/b",
        "/s/..",
        "/etc/passwd",
        "//etc/passwd",
        "",
    ],
)
def test_an_unknown_address_is_nothing(made: Site, path: str) -> None:
    assert site.respond(made, path, {}) is None


def test_a_packed_site_answers_as_its_sources(tmp_path: Path) -> None:
    folder = write(tmp_path / "web", SOURCES)
    site.pack(folder / "site", tmp_path / "built")
    packed, sources = site.load(tmp_path / "built"), site.load(folder)
    assert packed.version == sources.version
    assert set(packed.files) == set(sources.files)
    for name in sources.files:
        for accepted in ("gzip", "identity"):
            path = f"/web/{name}"
            assert site.respond(packed, path, {"accept-encoding": accepted}) == site.respond(
                sources, path, {"accept-encoding": accepted}
            )


def test_an_edit_shows_at_the_next_load_and_is_another_version(tmp_path: Path) -> None:
    folder = write(tmp_path / "web", SOURCES)
    before = site.load(folder)
    (folder / "site" / "styles" / "a.css").write_text("body { color: #321; margin: 0 }")
    after = site.load(folder)
    assert before.version != after.version
    assert body_of(get(after, "/web/styles/a.css")) == "body { color: #321; margin: 0 }"


def test_a_version_is_of_names_and_contents(tmp_path: Path) -> None:
    versions = {
        site.make({name: text.encode() for name, text in files.items()}).version
        for files in (
            {"a.js": "x", "b.js": "y"},
            {"a.js": "y", "b.js": "x"},
            {"a.js": "xy"},
            {"a.js": "x", "b.js": "y"},
        )
    }
    assert len(versions) == 3


# The policy


def policy() -> dict[str, list[str]]:
    parts = [part.split() for part in site.content_security_policy().split("; ")]
    return {name: values for name, *values in parts}


def test_the_pages_run_nothing_but_their_own_files_and_sit_in_no_frame(made: Site) -> None:
    for path in ("/", "/admin", "/s/abc"):
        headers = get(made, path)["headers"]
        assert headers["Content-Security-Policy"] == site.content_security_policy()
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "Content-Security-Policy" not in get(made, "/web/page/main.js")["headers"]
    found = policy()
    assert found["default-src"] == ["'none'"]
    assert found["script-src"] == found["style-src"] == ["'self'"]
    assert found["base-uri"] == found["form-action"] == found["frame-ancestors"] == ["'none'"]
    assert found["require-trusted-types-for"] == ["'script'"]
    assert "unsafe" not in site.content_security_policy()
    assert "*" not in site.content_security_policy()


def test_pages_may_call_the_host_of_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "UPLOADS_ORIGIN", "http://127.0.0.1:8000/local/s3")
    monkeypatch.setattr(settings, "STREAM_BASE_URL", "https://abc.lambda-url.us-east-1.on.aws")
    assert policy()["connect-src"] == ["'self'", "https://abc.lambda-url.us-east-1.on.aws", "http://127.0.0.1:8000"]
    monkeypatch.setattr(settings, "STREAM_BASE_URL", "")
    assert policy()["connect-src"] == ["'self'", "http://127.0.0.1:8000"]


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1", "ap-east-1", "cn-north-1"])
def test_pages_may_reach_the_bucket_at_the_addresses_that_the_sdk_signs(
    monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    from botocore.config import Config
    from botocore.session import get_session

    monkeypatch.setattr(settings, "UPLOADS_ORIGIN", "")
    monkeypatch.setattr(settings, "AWS_REGION", region)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    s3 = get_session().create_client(
        "s3",
        region_name=region,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(signature_version="s3v4"),
    )
    form = s3.generate_presigned_post(settings.UPLOADS_BUCKET, "incoming/a")["url"]
    image = s3.generate_presigned_url("get_object", Params={"Bucket": settings.UPLOADS_BUCKET, "Key": "images/a"})
    for address, directive in ((form, "connect-src"), (image, "img-src")):
        origin = re.match(r"https://[^/]+", address)
        assert origin
        assert origin[0] in policy()[directive]


def test_the_packed_list_names_no_path_outside_its_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "web", SOURCES)
    site.pack(folder / "site", tmp_path / "built")
    listed = json.loads((tmp_path / "built" / "packed" / "site.json").read_text())["files"]
    assert all("/" not in about["stored"] for about in listed.values())
