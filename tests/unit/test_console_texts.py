"""The console's texts: each key that a script uses is in both languages, and each list is the API's."""

import re
from pathlib import Path
from typing import get_args

import pytest

from aideer.billing import counters
from aideer.schemas.admin import State
from aideer.security.audit_trail import Action
from aideer.tasks.control import ERRORS

SITE = Path(__file__).parents[2] / "functions/web/site"
LANGUAGES = ("en", "zh")
PREFIXES = {"console.action", "console.failure", "console.kind", "console.tag"}
"""What stands in quotes before a value of the API (`named`)."""


def texts(folder: str, language: str) -> dict[str, str]:
    """The texts of a catalogue, by key."""
    source = (SITE / folder / f"text-{language}.js").read_text(encoding="utf-8")
    return dict(re.findall(r'^  "([^"]+)": "((?:[^"\\]|\\.)*)",$', source, re.MULTILINE))


def sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((SITE / "console").glob("*.js")))


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    english, chinese = texts("console", "en"), texts("console", "zh")
    assert len(english) > 300
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        values = set(re.findall(r"\{(\w+)\}", text))
        assert set(re.findall(r"\{(\w+)\}", chinese[key])) == values, key
        assert not re.search(r"[\u4e00-\u9fff]", text), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_text_that_the_console_uses_is_there(language: str) -> None:
    used = set(re.findall(r"""\bt\(\s*["']([\w.]+)["']""", sources()))
    used |= set(re.findall(r'"(console\.[\w.]+)"', sources())) - PREFIXES
    assert len(used) > 200
    known = texts("console", language).keys() | texts("shared", language).keys()
    assert not used - known


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_text_of_the_console_is_used(language: str) -> None:
    source = sources()
    computed: list[str] = re.findall(r"`(console\.[\w.]+)\.\$\{", source)
    computed += re.findall(r'named\("(console\.\w+)"', source)
    for key in texts("console", language):
        assert (
            f'"{key}"' in source
            or key.rpartition(".")[0] in computed
            or any(key.startswith(f"{name}.") for name in computed)
        ), key


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_value_of_the_api_has_its_text(language: str) -> None:
    known = texts("console", language)
    for prefix, values in (
        ("action", get_args(Action)),
        ("letter_state", get_args(State)),
        ("failure", (*ERRORS, "hold_exceeded", "uncounted")),
        ("code_state", ("active", "used_up", "revoked", "expired")),
        ("rule", ("I1", "I2", "I3", "I4", "I5")),
    ):
        missing = [value for value in values if f"console.{prefix}.{value}" not in known]
        assert not missing, prefix


def test_the_audit_page_offers_every_action() -> None:
    source = (SITE / "console/audit.js").read_text(encoding="utf-8")
    [offered] = re.findall(r"const ACTIONS = \[(.*?)\];", source, re.DOTALL)
    assert sorted(re.findall(r'"([\w.]+)"', offered)) == sorted(get_args(Action))


def test_the_overview_knows_the_groups_of_times_to_the_first_token() -> None:
    source = (SITE / "console/overview.js").read_text(encoding="utf-8")
    [bounds] = re.findall(r"const BOUNDS = \[(.*?)\];", source)
    assert tuple(int(bound) for bound in bounds.split(",")) == counters.FIRST_TOKEN_MS
