"""Each fault of a price table is a line at the build: the file, the model, the field, what is wrong and what is allowed.

Tests with "shipped" in their names read the tables that operators edit. All others use the tests' own table.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.prices
from aideer.billing import pricing
from local.stack import prices
from local.stack.settings import Settings, SettingsError
from local.stack.template import Template
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
        ({"tiers": tiers(cached=8001)}, "tiers[0].cached is 8001, above input. Allowed: at most 8000."),
        ({"tiers": tiers(thinking=19_999)}, "tiers[0].thinking is 19999, below output. Allowed: at least 20000."),
        (
            {"tiers": tiers(input=24_001)},
            "tiers[1].input is 24000, below the price of shorter prompts. Allowed: at least 24001",
        ),
        ({"tiers": tiers(up_to=256_000)}, "tiers do not rise in up_to"),
        ({"tiers": tiers()[:1]}, "tiers end at up_to 128000"),
        ({"context": 0}, "context"),
        ({"max_output": 1_000_001}, "max_output is 1000001"),
        ({"thinking": "sometimes"}, 'thinking is "sometimes". Allowed: "never", "optional" or "always".'),
        ({"max_thinking": None}, "max_thinking is missing. Allowed: a whole number from 1 to "),
        (
            {"thinking": "never"},
            'max_thinking is 81920. Allowed: no max_thinking. A model whose thinking is "never" has no',
        ),
        ({"reasoning_effort": ["low"]}, "effort_with_budget is missing. Allowed: true or false."),
        ({"structured_output": ["xml"]}, 'structured_output[0] is "xml". Allowed: "json_object" or "json_schema".'),
        ({"tools": "yes"}, 'tools is "yes". Allowed: true or false.'),
        ({"tiers": 5}, "tiers is 5. Allowed: a list of one or more objects with up_to, input and output (optional: "),
        ({"vision": True}, "image_tokens is missing. Allowed: a whole number"),
        ({"image_tokens": 10}, "image_tokens is 10. Allowed: no image_tokens. A model whose vision is false has no"),
        ({"vision": True, "image_tokens": 10}, 'vision is true, and endpoint is "text"'),
        ({"retires_on": "soon"}, "retires_on"),
        ({"retires_on": "2027-02-31"}, "retires_on is 2027-02-31, which is no day"),
        ({"retires_on": "2027-02-01\n"}, "retires_on"),
        ({"max_output": 32768.0}, "max_output is 32768.0. Allowed: a whole number"),
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
        (
            {"vision": True, "endpoint": "multimodal", "image_tokens": 995_905},
            "image_tokens is 995905, above the max_input",
        ),
        ({"confirm": ["tiers\n"]}, "confirm[0]"),
        ({"endpoint": "chat"}, "endpoint"),
        ({"tokenizer": "gpt"}, "tokenizer"),
        ({"search": {"tokens": 1, "fees": {"turbo": 1}}}, "search.fees"),
        ({"confirm": ["prices"]}, "confirm names prices, which is no field. Allowed: model, endpoint, "),
        ({"prize": 1}, "prize is no field. Allowed: model, endpoint, "),
    ],
)
def test_a_fault_names_the_file_the_model_and_the_field(tmp_path, fields, named):
    path = write(tmp_path, changed(**fields))
    with pytest.raises(prices.PriceTableError) as fault:
        prices.check_table(path)
    said = str(fault.value)
    assert named in said
    for line in said.split("\n"):
        assert line.startswith("beijing.json: model qwen-plus: ")
        assert "Allowed: " in line
        assert not re.search(r"should not be valid|is not (of type|valid)|required property|unexpected", line), (
            "jsonschema's"
        )


def test_all_missing_fields_of_a_model_are_named_at_once(tmp_path):
    table = {**GOOD, "models": [*GOOD["models"], {"model": "qwen-test", "thinking": "optional"}]}
    with pytest.raises(prices.PriceTableError) as fault:
        prices.check_table(write(tmp_path, table))
    [line] = str(fault.value).split("\n")
    assert line.startswith('beijing.json: model qwen-test: 13 fields are missing: endpoint ("text" or "multimodal"), ')
    for name in ("context", "tiers", "confirm", "max_thinking", "thinking_budget"):
        assert f" {name} (" in line


def test_all_faults_of_all_tables_are_named_at_once(tmp_path, capsys, monkeypatch):
    write(tmp_path, changed(max_input=None, vision="yes"))
    (tmp_path / "mars.json").write_text(json.dumps({**GOOD, "models": GOOD["models"] * 2}))
    monkeypatch.setattr(prices.check, "__defaults__", (tmp_path,))
    assert prices.main() == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "ERROR beijing.json: model qwen-plus: max_input is missing. Allowed: a whole number from 1 to 100000000.",
        'ERROR beijing.json: model qwen-plus: vision is "yes". Allowed: true or false.',
    ]
    assert "ERROR mars.json: model qwen-max: the table has it 2 times. Allowed: once." in lines
    assert lines[-1] == 'ERROR mars.json: region is "beijing". Allowed: "mars", as in the file\'s name.'


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("{", "cannot be read as JSON"),
        ('{"version": "1", "version": "2"}', '"version" is there twice'),
        ([], "the table is empty. Allowed: an object with version, region, base_url, per and models."),
        ({**GOOD, "per": 1000}, "per is 1000. Allowed: 1000000."),
        ({**GOOD, "per": 1_000_000.0}, "per is 1000000.0. Allowed: 1000000."),
        (
            {**GOOD, "base_url": "https://x /api/v1"},
            'base_url is "https://x /api/v1". Allowed: text such as "https://dashscope',
        ),
        ({**GOOD, "base_url": GOOD["base_url"] + "\n"}, "base_url"),
        ({**GOOD, "version": "1\n"}, "version"),
        (
            {**GOOD, "models": [{**GOOD["models"][0], "model": "qwen-plus "}]},
            'model is "qwen-plus ". Allowed: text such as "qwen-plus"',
        ),
        ({**GOOD, "models": [{**GOOD["models"][0], "model": "qwen\ud800\n"}]}, 'model is "qwen\\ud800\\n".'),
        ('{"a\ud800\\n": 1, "a\ud800\\n": 2}'.replace("\ud800", "\\ud800"), "is there twice"),
        ({**GOOD, "region": "singapore"}, 'region is "singapore". Allowed: "beijing", as in the file\'s name.'),
        ({**GOOD, "models": GOOD["models"][:1] * 2}, "model qwen-plus: the table has it 2 times. Allowed: once."),
        ({**GOOD, "models": [5]}, "model number 1: the entry is 5. Allowed: an object with model, "),
        (
            {name: value for name, value in GOOD.items() if name != "base_url"},
            "base_url is missing. Allowed: text such as",
        ),
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
