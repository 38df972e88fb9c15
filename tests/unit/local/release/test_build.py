"""`make build`: what a function weighs is what it brings and what its layers do, and too much of it is an error."""

import re
from pathlib import Path

import pytest

from local.release import build, imports
from local.release.build import BuildError, built, check_sizes, compile_all
from local.stack.template import ROOT

TEMPLATE = (ROOT / "tests/fixtures/built.yaml").read_text(encoding="utf-8")


def test_every_variable_that_is_read_as_a_number_has_one_for_the_imports() -> None:
    settings = (ROOT / "functions/aideer/core/settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r'(?:int|float)\(os\.environ\["(\w+)"\]\)', settings))
    assert read == set(imports.NUMBERS), "NUMBERS of local/release/imports.py needs a value for each of them"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    for name in ("LightFunction/chats", "HeavyFunction/chats", "CoreLayer/python", "DashscopeLayer/python"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "module.py").write_text("x = 1\n")
    return tmp_path


def fill(path: Path, megabytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(megabytes * 10**6)


def test_a_function_weighs_what_it_brings_and_what_its_layers_do(folder: Path) -> None:
    fill(folder / "CoreLayer/python/core.bin", 30)
    fill(folder / "DashscopeLayer/python/sdk.bin", 60)
    light, heavy = built(folder)
    assert (light.module, heavy.module) == ("chats.list", "tasks.stream")
    assert (round(light.size), light.limit) == (30, 60)
    assert (round(heavy.size), heavy.limit) == (90, 120)


def test_what_is_within_the_budget_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(folder / "CoreLayer/python/core.bin", 59)
    check_sizes(built(folder))
    assert "59.0 MB of  60  LightFunction" in capsys.readouterr().out


def test_what_is_over_the_budget_is_named(folder: Path) -> None:
    fill(folder / "CoreLayer/python/core.bin", 61)
    with pytest.raises(BuildError, match=r"LightFunction$"):
        check_sizes(built(folder))


def test_without_python_3_13_and_without_docker_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_python", lambda: None)
    monkeypatch.setattr(build.docker, "available", lambda: False)
    assert not compile_all(built(folder))


def test_nothing_built_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="make build"):
        built(tmp_path)
