"""`make web-adapter`: the layer's version is the template's, it is built once, and what is missing is named."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from local.release import web_adapter
from local.release.web_adapter import CRATE, EXTENSION, LAYER_VERSION, VERSION, WRAPPER, AdapterError, layer, main
from local.stack.template import ROOT

CARGO = """#!/bin/sh
if [ "$1" = -vV ]; then echo "host: {host}"; exit; fi
echo "$RUSTFLAGS $*" >> "{asked}"
while [ "$1" != --root ]; do shift; done
mkdir -p "$2/bin" && echo adapter > "$2/bin/lambda-adapter" && exit {code}
"""

MakeCargo = Callable[..., dict[str, str]]


@pytest.fixture
def cargo(tmp_path: Path) -> MakeCargo:
    """Makes an environment with a cargo of the test's own, which builds nothing and notes what it was asked."""

    def make(host: str = "x86_64-unknown-linux-gnu", code: int = 0) -> dict[str, str]:
        program = tmp_path / "bin" / "cargo"
        program.parent.mkdir()
        program.write_text(CARGO.format(host=host, code=code, asked=tmp_path / "asked"))
        program.chmod(0o755)
        wrapper = tmp_path / "cargo" / "registry" / "src" / "index" / f"{CRATE}-{VERSION}" / "layer" / WRAPPER
        wrapper.parent.mkdir(parents=True)
        wrapper.write_text("#!/bin/bash\n")
        own = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "CARGO_HOME": str(tmp_path / "cargo")}
        return {**own, "PATH": f"{program.parent}:{os.environ['PATH']}"}

    return make


def test_the_tested_version_is_the_one_of_the_layer_in_the_template() -> None:
    text = (ROOT / "template.yaml").read_text(encoding="utf-8")
    [version] = set(re.findall(r":layer:\$\{Name\}:(\d+)", text))
    assert int(version) == LAYER_VERSION, (
        f"{CRATE} {VERSION} is of layer {LAYER_VERSION}: find the version of the new layer"
    )


def test_the_layer_is_built_statically_and_once(tmp_path: Path, cargo: MakeCargo) -> None:
    environment = cargo()
    folder = layer(environment)
    assert layer(environment) == folder
    assert folder.is_relative_to(tmp_path / "cache" / "aideer")
    assert VERSION in folder.name
    assert (folder / EXTENSION).read_text() == "adapter\n"
    assert all(os.access(folder / file, os.X_OK) for file in (EXTENSION, WRAPPER))
    [asked] = (tmp_path / "asked").read_text().splitlines()
    assert asked.startswith(f"-C target-feature=+crt-static install --quiet --locked --version {VERSION} ")
    assert "--target x86_64-unknown-linux-gnu" in asked


def test_without_cargo_the_error_says_what_to_install(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    with pytest.raises(AdapterError, match=rf"cargo is not here.*{VERSION}.*Install Rust.*{tmp_path}"):
        layer(environment)


def test_on_another_system_the_error_says_where_to_build(cargo: MakeCargo) -> None:
    with pytest.raises(AdapterError, match=r"aarch64-apple-darwin.*on Linux"):
        layer(cargo(host="aarch64-apple-darwin"))


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path, cargo: MakeCargo) -> None:
    with pytest.raises(AdapterError, match="could not build"):
        layer(cargo(code=101))
    assert list((tmp_path / "cache" / "aideer").iterdir()) == []


def test_the_command_prints_the_folder_or_the_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(web_adapter, "layer", lambda: tmp_path)
    assert main() == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"

    def fail() -> Path:
        raise AdapterError("cargo is not here.")

    monkeypatch.setattr(web_adapter, "layer", fail)
    assert main() == 1
    assert capsys.readouterr().err == "ERROR cargo is not here.\n"
