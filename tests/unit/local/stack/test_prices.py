"""A price table that cannot be used is one clear sentence at the build: the file, the model, the field.

Tests with "shipped" in their names read the tables that operators edit. All others use the tests' own table.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.prices
from aideer.billing import pricing
from local.stack import prices
from local.stack.settings import Settings, SettingsError
from local.stack.template import ROOT, Template
from tests.support import Api

GOOD = tests.prices.read_table()


def write(folder: Path, table: object) -> Path:
    path = folder / "beijing.json"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    return path


def changed(**fields):
    """The table with these fields of qwen-plus; None takes one away."""
    table = json.loads(json.dumps(GOOD))
    entry = table["models"][0]
    assert entry["model"] == "qwen-plus"
    for name, value in fields.items():
        if value is None:
            del entry[name]
        else:
            entry[name] = value
    return table


def tiers(**fields):
    return [{**GOOD["models"][0]["tiers"][0], **fields}, *GOOD["models"][0]["tiers"][1:]]


def test_every_shipped_table_is_sound():
    prices.check()
    assert set(prices.regions()) >= {"beijing", "singapore"}


def test_the_table_of_the_tests_is_as_sound_as_a_shipped_one():
    prices.check(tests.prices.FOLDER)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tiers": None}, "tiers"),
        ({"tiers": []}, "tiers"),
        ({"tiers": tiers(input=0)}, "tiers[0].input"),
        ({"tiers": tiers(input=8000.5)}, "tiers[0].input"),
        ({"tiers": tiers(input="8000")}, "tiers[0].input"),
        ({"tiers": tiers(input=True)}, "tiers[0].input"),
        ({"tiers": tiers(input=-1)}, "tiers[0].input"),
        ({"tiers": tiers(inptu=1)}, "inptu"),
        ({"tiers": tiers(cached=8001)}, "tiers have a cached price above input"),
        ({"tiers": tiers(thinking=19_999)}, "tiers have a thinking price below output"),
        ({"tiers": tiers(input=24_001)}, "tiers fall in input"),
        ({"tiers": tiers(up_to=256_000)}, "tiers do not rise in up_to"),
        ({"tiers": tiers()[:1]}, "tiers end at up_to 128000"),
        ({"context": 0}, "context"),
        ({"max_output": 1_000_001}, "max_output is 1000001"),
        ({"thinking": "sometimes"}, "thinking"),
        ({"max_thinking": None}, "max_thinking"),
        ({"vision": True}, "image_tokens"),
        ({"vision": True, "image_tokens": 10}, "vision needs the multimodal endpoint"),
        ({"retires_on": "soon"}, "retires_on"),
        ({"retires_on": "2027-02-31"}, "retires_on is 2027-02-31, which is no day"),
        ({"retires_on": "2027-02-01\n"}, "retires_on"),
        ({"max_output": 32768.0}, "max_output: 32768.0 is not of type 'integer'"),
        ({"context": 1e6}, "context"),
        ({"tiers": tiers(input=8000.0)}, "tiers[0].input"),
        ({"tiers": tiers(up_to=128000.0)}, "tiers[0].up_to"),
        ({"tiers": tiers(input=10**40)}, "tiers[0].input"),
        ({"tiers": tiers(input=float("nan"))}, "tiers[0].input"),
        ({"max_thinking": 1_000_001}, "max_thinking is 1000001, above the context"),
        ({"max_thinking": 81920.0}, "max_thinking"),
        (
            {"search": {"tokens": 995_905, "fees": {"turbo": 1, "max": 1}}},
            "search.tokens is 995905, above the max_input",
        ),
        ({"search": {"tokens": 1, "fees": {"turbo": 1.0, "max": 1}}}, "search.fees.turbo"),
        ({"search": {"tokens": 1, "fees": {"turbo": 10**40, "max": 1}}}, "search.fees.turbo"),
        ({"image_tokens": 995_905}, "image_tokens is 995905, above the max_input"),
        ({"confirm": ["tiers\n"]}, "confirm[0]"),
        ({"endpoint": "chat"}, "endpoint"),
        ({"tokenizer": "gpt"}, "tokenizer"),
        ({"search": {"tokens": 1, "fees": {"turbo": 1}}}, "search.fees"),
        ({"confirm": ["prices"]}, "confirm names prices"),
        ({"prize": 1}, "prize"),
    ],
)
def test_a_fault_names_the_file_the_model_and_the_field(tmp_path, fields, named):
    path = write(tmp_path, changed(**fields))
    with pytest.raises(prices.PriceTableError) as fault:
        prices.check_table(path)
    said = str(fault.value)
    assert said.startswith("beijing.json: model qwen-plus: ")
    assert named in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("{", "cannot be read as JSON"),
        ('{"version": "1", "version": "2"}', "version is there twice"),
        ([], "is not of type 'object'"),
        ({**GOOD, "per": 1000}, "per: 1000000 was expected"),
        ({**GOOD, "per": 1_000_000.0}, "per: 1000000.0 is not of type 'integer'"),
        ({**GOOD, "base_url": "https://x /api/v1"}, "base_url: 'https://x /api/v1' does not match"),
        ({**GOOD, "base_url": GOOD["base_url"] + "\n"}, "base_url"),
        ({**GOOD, "version": "1\n"}, "version"),
        ({**GOOD, "models": [{**GOOD["models"][0], "model": "qwen-plus "}]}, "model: 'qwen-plus ' does not match"),
        ({**GOOD, "models": [{**GOOD["models"][0], "model": "qwen\ud800\n"}]}, "does not match"),
        ('{"a\ud800\\n": 1, "a\ud800\\n": 2}'.replace("\ud800", "\\ud800"), "is there twice"),
        ({**GOOD, "region": "singapore"}, "region is singapore"),
        ({**GOOD, "models": GOOD["models"] * 2}, "model qwen-plus is there twice"),
        ({**GOOD, "models": [5]}, "model number 0"),
        ({name: value for name, value in GOOD.items() if name != "base_url"}, "'base_url' is a required property"),
    ],
)
def test_a_table_that_is_none_is_one_sentence(tmp_path, table, said):
    with pytest.raises(prices.PriceTableError) as fault:
        prices.check_table(write(tmp_path, table))
    assert str(fault.value).startswith("beijing.json: ")
    assert said in str(fault.value)
    assert "\n" not in str(fault.value)
    str(fault.value).encode()  # a console can show it


def test_the_template_knows_every_region_and_its_address():
    document = Template().document
    assert sorted(document["Parameters"]["ProviderRegion"]["AllowedValues"]) == prices.regions()
    assert document["Parameters"]["ProviderRegion"]["Default"] == "beijing"
    addresses = {region: found["DashscopeBaseUrl"] for region, found in document["Mappings"]["Regions"].items()}
    assert addresses == {region: prices.base_url(region) for region in prices.regions()}


def test_a_region_without_a_table_is_one_clear_sentence():
    assert Settings.read({"PROVIDER_REGION": "singapore"}).provider_region == "singapore"
    assert Settings.read({}).provider_region == "beijing"
    with pytest.raises(SettingsError, match=r"PROVIDER_REGION=mars is none of beijing, .*singapore"):
        Settings.read({"PROVIDER_REGION": "mars"})


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Lets the rest of the test bill by the shipped table of a region, and returns that table."""

    def use(region: str) -> dict[str, Any]:
        monkeypatch.setattr(pricing.settings, "PROVIDER_REGION", region)
        tests.prices.bill_by(prices.TABLES)
        table: dict[str, Any] = json.loads((prices.TABLES / f"{region}.json").read_text(encoding="utf-8"))
        return table

    yield use
    monkeypatch.undo()
    tests.prices.bill_by(tests.prices.FOLDER)


def test_a_deployed_function_bills_by_the_shipped_tables() -> None:
    reads = "from aideer.billing import pricing; print(pricing.TABLES)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "functions")}
    told = subprocess.run([sys.executable, "-c", reads], env=environment, capture_output=True, text=True, check=True)
    assert Path(told.stdout.strip()) == prices.TABLES


@pytest.mark.parametrize("region", prices.regions())
def test_each_shipped_table_is_shown_with_the_fields_that_its_operator_must_confirm(
    api: Api, shipped: Callable[[str], dict[str, Any]], region: str
) -> None:
    table = shipped(region)
    shown = api("prices.list", "GET", "/prices").json
    assert (shown["region"], shown["version"]) == (region, table["version"])
    assert {model["model"]: model["confirm"] for model in shown["models"]} == {
        entry["model"]: entry["confirm"] for entry in table["models"]
    }
