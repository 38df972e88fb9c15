"""The function of the web client, called as API Gateway calls it. tests/unit/aideer/web/test_site.py has the files themselves."""

from pathlib import Path
from typing import Any

import pytest

from aideer.core import settings, warmth
from aideer.web import site
from local.release import build
from tests.support import Context, http_event, recorded_calls
from web import file


def called(path: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    event = http_event(method, "/docs", headers={name.replace("_", "-"): value for name, value in headers.items()})
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    answer: dict[str, Any] = file.handler(event, Context())
    return answer


@pytest.mark.parametrize("path", ["/", "/admin", "/web/aideer.js"])
def test_head_is_get_without_its_body(path: str) -> None:
    get, head = called(path, accept_encoding="identity"), called(path, "HEAD", accept_encoding="identity")
    assert get["statusCode"] == head["statusCode"] == 200
    assert head["body"] == ""
    assert head["headers"] == {**get["headers"], "Content-Length": str(len(get["body"].encode()))}


def test_a_file_needs_no_token_and_no_call_of_aws() -> None:
    with recorded_calls() as calls:
        assert called("/")["statusCode"] == 200
        assert called("/web/aideer.js", authorization="Bearer nonsense")["statusCode"] == 200
    assert not calls


def test_an_unknown_address_is_refused_in_the_readers_language() -> None:
    answer = called("/web/nothing.js", accept_language="zh-CN")
    assert answer["statusCode"] == 404
    assert answer["headers"]["Content-Language"] == "zh"
    assert '"code":"not_found"' in answer["body"]
    assert answer["headers"]["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in answer["headers"]["Cache-Control"]
    assert called("/web/nothing.js", "HEAD")["body"] == ""


def test_behind_a_firewall_a_request_must_come_through_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "DOMAIN_REQUIRED", True)
    answer = called("/")
    assert (answer["statusCode"], '"code":"domain_required"' in answer["body"]) == (403, True)
    monkeypatch.setattr(settings, "ORIGIN_SECRETS", ("s" * 32,))
    assert called("/", **{"x_aideer_origin": "s" * 32})["statusCode"] == 200


def test_a_ping_keeps_the_function_warm() -> None:
    assert file.handler(warmth.PING, Context()) == warmth.PONG


def test_the_build_packs_the_site_for_its_function_and_leaves_its_sources_out_of_all(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("web.file", "health.get")}
    for folder in folders.values():
        (folder / "web" / "site").mkdir(parents=True)
        (folder / "web" / "site" / "index.html").write_text("")
    build.pack_assets([build.Built(name, name, folder, ()) for name, folder in folders.items()])
    assert [folder for folder in folders.values() if (folder / "web" / "site").exists()] == []
    assert not (folders["health.get"] / "web" / "packed").exists()
    packed, sources = site.load(folders["web.file"] / "web"), site.load(file.FOLDER)
    assert (packed.version, set(packed.files)) == (sources.version, set(sources.files))
    assert len(packed.files) > 80
    assert {"index.html", "admin.html", "aideer.js", "vendor/VENDOR.json", "icons/deer.svg"} <= set(packed.files)
