"""`make bench`: what the LiteLLM proxy is told, and how it is left out."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from local.bench import rivals
from local.bench.ways import LITELLM, SDK
from local.stack.template import ROOT


def test_litellm_speaks_to_the_compatible_endpoint_of_the_same_provider() -> None:
    base_url, way = rivals.to_compatible("http://127.0.0.1:9/api/v1")
    assert base_url == "http://127.0.0.1:9/compatible-mode/v1"
    assert way.name == way.straight
    config: Any = rivals.litellm_config(base_url, "http://127.0.0.1:8/v1", "sk-one")
    straight, before_aideer = [model["litellm_params"] for model in config["model_list"]]
    assert straight["api_base"] == base_url
    assert (before_aideer["api_base"], before_aideer["api_key"]) == ("http://127.0.0.1:8/v1", "sk-one")
    assert config["litellm_settings"] == {"telemetry": False, "num_retries": 0}


def test_what_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for venv in ("LITELLM_VENV", "CLIENTS_VENV"):
        monkeypatch.setattr(rivals, venv, tmp_path)
    base_url, aideer = "http://127.0.0.1:9/compatible-mode/v1", Mock()
    with rivals.run_litellm(base_url, aideer, tmp_path) as proxies, rivals.run_openai(base_url, aideer) as sdk:
        assert (proxies, sdk) == ([], [])
    for name, without in ((LITELLM, rivals.NO_LITELLM), (SDK, rivals.NO_CLIENTS)):
        assert "\n" not in without
        assert name.partition(" ")[0] in without


def test_litellm_is_pinned_with_all_that_it_needs_and_without_an_address() -> None:
    lines = (ROOT / "requirements-litellm.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("litellm==")]
    assert [line for line in lines if "==" not in line or "://" in line] == []
