"""What anybody may ask: prices, health and the documentation."""

import gzip
import json
import os
import re
import subprocess
import sys

import pytest

from aideer import __version__, pricing
from aideer.responses import documented
from local.template import ROOT

DOCUMENT = ROOT / "functions" / "docs" / "openapi.json"


def test_the_prices_are_the_table_that_answers_are_billed_by(api):
    answer = api("prices.list", "GET", "/prices")
    assert answer.status == 200
    assert answer.json["version"] == pricing.table()["version"]
    assert [model["model"] for model in answer.json["models"]] == [m["model"] for m in pricing.table()["models"]]
    for shown in answer.json["models"]:
        assert set(shown) == {"model", "tiers", "context", "vision"}
        assert shown["tiers"] == pricing.tariff(shown["model"])["tiers"]


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
    command = [sys.executable, "-m", "local.openapi", "--check"]
    subprocess.run(command, cwd=ROOT, env={"PATH": os.environ["PATH"]}, check=True)


@pytest.fixture(scope="module")
def operations():
    document = json.loads(DOCUMENT.read_text())
    return {f"{method.upper()} {path}": o for path, item in document["paths"].items() for method, o in item.items()}


def test_every_reference_in_the_document_leads_somewhere_and_every_schema_is_used():
    text = DOCUMENT.read_text()
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert used == set(json.loads(text)["components"]["schemas"])


def test_every_operation_has_a_summary_an_id_of_its_own_and_our_kind_of_errors(operations):
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    for name, operation in operations.items():
        assert not operation["summary"].startswith(("GET", "POST", "PUT", "DELETE")), name
        assert {"200", "302"} & set(operation["responses"]), name
        for status, response in operation["responses"].items():
            if status >= "400":
                assert re.search(r"schemas/(Error|InvalidRequest)", json.dumps(response)), f"{name} {status}"


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


def test_what_is_not_there_is_not_found_in_the_shape_of_errors(api):
    answer = api("health.get", "GET", "/nothing/of/this/name")
    assert (answer.status, answer.json["code"]) == (404, "not_found")


def test_a_documented_operation_names_what_it_refuses_with():
    described = documented("Do it", errors=(409,))
    assert list(described["responses"]) == [200, 400, 401, 409, 503, 422]
    assert described["security"] == [{"bearerAuth": []}]
    public = documented("Do it", public=True)
    assert (list(public["responses"]), public["security"]) == ([200, 422], None)
