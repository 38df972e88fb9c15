"""`make bench`: what the LiteLLM proxy is told, and how it is left out."""

from pathlib import Path
from typing import Any

import pytest

from local.bench import rivals
from local.bench.ways import LITELLM
from local.stack.template import ROOT


def test_litellm_speaks_to_the_compatible_endpoint_of_the_same_provider() -> None:
    base_url, way = rivals.to_compatible("http://127.0.0.1:9/api/v1")
    assert base_url == "http://127.0.0.1:9/compatible-mode/v1"
    assert way.name == way.straight
    config: Any = rivals.litellm_config(base_url)
    [model] = config["model_list"]
    assert model["litellm_params"]["api_base"] == base_url
    assert config["litellm_settings"] == {"telemetry": False}


def test_litellm_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rivals, "LITELLM_VENV", tmp_path)
    with rivals.run_litellm("http://127.0.0.1:9/compatible-mode/v1", tmp_path) as way:
        assert way is None
    assert "\n" not in rivals.NO_LITELLM
    assert LITELLM.partition(" ")[0] in rivals.NO_LITELLM


def test_litellm_is_pinned_with_all_that_it_needs_and_without_an_address() -> None:
    lines = (ROOT / "requirements-litellm.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("litellm==")]
    assert [line for line in lines if "==" not in line or "://" in line] == []
