"""The served copies are those of the pinned packages and of clients/js."""

import json
import subprocess

from tests.web.stack import PYTHON, ROOT

SITE = ROOT / "functions" / "web" / "site"


def test_the_vendored_files_are_those_of_the_pinned_packages() -> None:
    answer = subprocess.run(
        [str(PYTHON), "-m", "local.development.vendor", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_each_library_has_its_pinned_version_and_its_licence() -> None:
    listed = json.loads((SITE / "vendor" / "VENDOR.json").read_text(encoding="utf-8"))
    pinned = json.loads((ROOT / "node" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert {name: about["version"] for name, about in listed["packages"].items()} == pinned
    for about in listed["packages"].values():
        text = (SITE / "vendor" / about["text"]).read_text(encoding="utf-8")
        assert "Permission" in text or "Licen" in text


def test_the_lock_file_names_no_registry() -> None:
    lock = (ROOT / "node" / "package-lock.json").read_text(encoding="utf-8")
    assert "resolved" not in lock
    assert lock.count('"integrity"') >= 10
