"""What anybody may ask: prices, health and the documentation."""

import base64
import gzip
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from aideer import __version__
from aideer.billing import pricing
from aideer.web import compression
from aideer.web.assets import Asset
from aideer.web.openapi import describe
from local.stack.template import ROOT

DOCUMENT = ROOT / "functions" / "docs" / "openapi.json"


def test_the_prices_are_the_table_that_answers_are_billed_by(api):
    answer = api("prices.list", "GET", "/prices")
    assert answer.status == 200
    assert answer.json["version"] == pricing.get_table()["version"]
    assert (answer.json["per"], answer.json["region"]) == (1_000_000, "beijing")
    assert [model["model"] for model in answer.json["models"]] == [m["model"] for m in pricing.get_table()["models"]]
    for shown in answer.json["models"]:
        tariff = pricing.get_tariff(shown["model"])
        assert shown == {name: value for name, value in tariff.items() if name not in ("version", "per")} | {
            "status": "retired" if pricing.is_retired(tariff) else "available"
        }


def test_a_retired_model_is_listed_as_retired(api):
    models = {model["model"]: model for model in api("prices.list", "GET", "/prices").json["models"]}
    assert (models["qwen-turbo"]["status"], models["qwen-turbo"]["retires_on"]) == ("retired", "2026-10-10")
    assert models["qwen-plus"]["status"] == "available"


def test_a_model_that_cannot_think_has_no_thinking_price(api):
    models = {model["model"]: model for model in api("prices.list", "GET", "/prices").json["models"]}
    assert "thinking" in models["qwen-plus"]["tiers"][0]
    assert "thinking" not in models["qwen-max"]["tiers"][0]


def test_health_names_the_version(api):
    assert api("health.get", "GET", "/health").json == {"status": "ok", "version": __version__}


def test_what_anybody_may_ask_costs_no_call(api, counted):
    api("prices.list", "GET", "/prices")
    api("health.get", "GET", "/health")
    api("docs.openapi", "GET", "/openapi.json")
    api("docs.page", "GET", "/docs")
    assert counted == []


@pytest.mark.parametrize("path", ["/openapi.json", "/api/v1/openapi.json"])
def test_the_document_is_served_at_the_root_and_under_the_base_path(api, path):
    answer = api("docs.openapi", "GET", path)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert "max-age" in answer.headers["cache-control"]
    assert answer.json == json.loads(DOCUMENT.read_text())


def test_the_document_is_that_of_the_handlers_as_they_are():
    command = [sys.executable, "-m", "local.docs.openapi", "--check"]
    subprocess.run(command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, check=True)


@pytest.fixture(scope="module")
def operations():
    document = json.loads(DOCUMENT.read_text())
    return {f"{method.upper()} {path}": o for path, item in document["paths"].items() for method, o in item.items()}


def test_every_reference_in_the_document_leads_somewhere_and_every_schema_is_used():
    text = DOCUMENT.read_text()
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert used == set(json.loads(text)["components"]["schemas"])


def forms(schema, schemas):
    """The objects that a schema allows."""
    if "$ref" in schema:
        return forms(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    return [form for one in schema["anyOf"] for form in forms(one, schemas)] if "anyOf" in schema else [schema]


def test_every_operation_has_a_summary_an_id_of_its_own_and_our_kind_of_errors(operations):
    schemas = json.loads(DOCUMENT.read_text())["components"]["schemas"]
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    for name, operation in operations.items():
        assert not operation["summary"].startswith(("GET", "POST", "PUT", "DELETE")), name
        assert {"200", "302"} & set(operation["responses"]), name
        for status, response in operation["responses"].items():
            if status >= "400":
                for form in forms(response["content"]["application/json"]["schema"], schemas):
                    assert {"detail", "code"} <= set(form["required"]) & set(form["properties"]), f"{name} {status}"


def test_the_document_describes_the_stream(operations):
    assert "text/event-stream" in operations["GET /api/v1/tasks/{id}/stream"]["responses"]["200"]["content"]


@pytest.mark.parametrize("path", ["/docs", "/api/v1/docs"])
def test_the_page_is_served_and_fetches_nothing_from_elsewhere(api, path):
    answer = api("docs.page", "GET", path)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "max-age" in answer.headers["cache-control"]
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=", answer.body)
    assert answer.body.count("</script>") == 2  # the library and its start: nothing in the document closes one early
    assert "Watch a task" in answer.body
    assert 'pathname.replace(/docs$/, "openapi.json")' in answer.body  # and not this path once more
    assert "format=json" not in answer.body


def test_the_page_fits_into_an_answer_of_lambda(api):
    plain = api("docs.page", "GET", "/docs")
    assert len(plain.body.encode()) < 5_000_000
    packed = api("docs.page", "GET", "/docs", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body.encode("latin-1")).decode() == plain.body
    assert len(packed.body) < 1_000_000


PUBLIC = [
    ("health.get", "/health"),
    ("prices.list", "/prices"),
    ("docs.openapi", "/openapi.json"),
    ("docs.openapi", "/api/v1/openapi.json"),
    ("docs.page", "/docs"),
    ("docs.page", "/api/v1/docs"),
]


@pytest.mark.parametrize(("module", "path"), PUBLIC)
@pytest.mark.parametrize("accepted", ["", "gzip"])
def test_head_has_the_headers_of_get_its_length_and_no_body(api, module, path, accepted):
    head, get = (api(module, method, path, headers={"Accept-Encoding": accepted}) for method in ("HEAD", "GET"))
    length = len(get.body.encode("latin-1" if get.headers.get("content-encoding") else "utf-8"))
    assert head.status == get.status == 200
    assert head.body == ""
    assert head.headers == {**get.headers, "content-length": str(length)}


DOCS = [("docs.openapi", "/openapi.json"), ("docs.page", "/docs"), ("docs.page", "/api/v1/docs")]


@pytest.mark.parametrize(("module", "path"), DOCS)
def test_whoever_has_an_asset_is_not_sent_it_again(api, module, path):
    tags = set()
    for coding in ("gzip", "identity"):
        sent = {"Accept-Encoding": coding}
        first = api(module, "GET", path, headers=sent)
        tags.add(first.headers["etag"])
        for method in ("GET", "HEAD"):
            again = api(module, method, path, headers={**sent, "If-None-Match": f'"other", {first.headers["etag"]}'})
            assert (again.status, again.body) == (304, "")
            assert {"etag", "cache-control", "vary"} <= again.headers.keys()
        assert api(module, "GET", path, headers={**sent, "If-None-Match": '"other"'}).status == 200
    assert len(tags) == 2, "a strong tag names the bytes"


@pytest.mark.parametrize(("module", "path"), DOCS)
@pytest.mark.parametrize("accepted", ["gzip", "identity"])
def test_a_packed_asset_is_served_as_the_build_left_it(api, tmp_path, monkeypatch, module, path, accepted):
    asset = importlib.import_module(module).ASSET
    asset.pack(tmp_path)
    packed = Asset(asset._name, lambda: pytest.fail("it was made"), asset._content_type, tmp_path)
    made = api(module, "GET", path, headers={"Accept-Encoding": accepted})
    monkeypatch.setattr(importlib.import_module(module), "ASSET", packed)
    monkeypatch.setattr(gzip, "compress", lambda *_, **__: pytest.fail("it was compressed"))
    assert api(module, "GET", path, headers={"Accept-Encoding": accepted}) == made


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
@pytest.mark.parametrize(
    ("accepted", "compressed"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("*", True),
        ("gzip;q=0.001", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, deflate", False),
        ("gzip; q = 0", False),
        ("*;q=0", False),
        ("identity;q=0, *;q=0", False),
        ("*, gzip;q=0", False),
        ("*;q=0, gzip", True),
        ("identity;q=0, gzip", True),
        ("identity", False),
        ("identity;q=1, gzip;q=0.5", False),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("deflate, br", False),
        ("not-gzip", False),
        ("gzip;q=nan", False),
        (",;;=,q", False),
    ],
)
def test_it_is_compressed_for_whoever_accepts_that_and_caches_are_told(api, path, accepted, compressed):
    answer = api(
        "docs" + (".page" if path == "/docs" else ".openapi"), "GET", path, headers={"Accept-Encoding": accepted}
    )
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers.get("content-encoding") == ("gzip" if compressed else None)


@given(
    st.lists(
        st.tuples(st.sampled_from(["gzip", "identity", "br", "*"]), st.integers(0, 1000)), unique_by=lambda p: p[0]
    )
)
def test_compression_is_negotiated_as_another_implementation_does(weights):
    header = ", ".join(f"{coding};q={weight / 1000}" for coding, weight in weights)
    accepted = dict(weights)
    welcome = accepted.get("gzip", accepted.get("*", 0)) >= accepted.get("identity", 0)
    assert compression.accepts_gzip(header) == (parse_accept_header(header, Accept)["gzip"] > 0 and welcome)


def test_the_page_runs_its_own_scripts_alone_is_in_no_frame_and_keeps_no_token(api):
    answer = api("docs.page", "GET", "/docs")
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in re.findall("<script>(.*?)</script>", answer.body, re.DOTALL)
    ]
    assert policy["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert (policy["default-src"], policy["frame-ancestors"], policy["connect-src"]) == ("'none'", "'none'", "'self'")
    assert "persistAuthorization: false" in answer.body
    assert 'localStorage.removeItem("authorized")' in answer.body


def test_what_is_not_there_is_not_found_in_the_shape_of_errors(api):
    answer = api("health.get", "GET", "/nothing/of/this/name")
    assert (answer.status, answer.json["code"]) == (404, "not_found")


def test_a_documented_operation_names_what_it_refuses_with():
    described = describe("Do it", errors=(409,))
    assert list(described["responses"]) == [200, 401, 409, 503, 422]
    assert described["security"] == [{"bearerAuth": []}]
    public = describe("Do it", public=True)
    assert (list(public["responses"]), public["security"]) == ([200, 422], None)
