"""README.md and the pages that it leads to: what they say of configuration, faults and files is so."""

import re
import tomllib
from pathlib import Path

import yaml

from local.simulators.dashscope import FAILS
from local.stack.template import ROOT, Template

README, CONTRIBUTING, CONFIGURATION, TOUR, ARCHITECTURE = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md", "docs/configuration.md", "docs/tour.md", "docs/architecture.md")
)
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in CONFIGURATION.splitlines()
    if line.startswith("| `")
]


def documented(names: str) -> dict[str, str]:
    """Names and defaults of the rows whose first cell holds names like these."""
    found = {}
    for row in ROWS:
        cells = [re.findall(r"`([^`]*)`", cell) for cell in row[:2]]
        if len(row) == 3 and all(re.fullmatch(names, name) for name in cells[0]):
            found.update(dict(zip(cells[0], cells[1] or [""] * len(cells[0]), strict=True)))
    return found


def test_the_environment_is_that_of_make_run() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    explained = dict(re.findall(r"^#([A-Z_]+)=(.*)$", example, re.MULTILINE))
    assert documented("[A-Z_]+") == explained, (
        "docs/configuration.md and .env.example differ in a variable or its default"
    )


def test_the_parameters_are_the_template_s() -> None:
    parameters = Template().document["Parameters"]
    defaults = {name: str(value["Default"]) for name, value in parameters.items()}
    assert documented("[A-Z][a-z]\\w+") == defaults, "docs/configuration.md and the Parameters of template.yaml differ"


def test_the_faults_are_those_of_the_simulated_provider() -> None:
    assert set(re.findall(r"fail=(\w+)", TOUR)) <= FAILS


WORKFLOWS = "../../actions/workflows/"
"""The pages of GitHub for the workflows, as seen from the page of a file in the root: <repository>/blob/<branch>/README.md."""


def target_of(page: Path, link: str) -> Path:
    """The file that a link leads to. A workflow's page and its badge are there if the workflow is."""
    if page.parent == ROOT and link.startswith(WORKFLOWS):
        return ROOT / ".github" / "workflows" / link.removeprefix(WORKFLOWS).removesuffix("/badge.svg")
    return page.parent / link


def test_what_it_links_to_is_there() -> None:
    pages = (f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))
    for name in ("README.md", *pages, "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"):
        page = ROOT / name
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert target_of(page, link).exists(), f"{name}: {link}"


def test_the_badges_are_true() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime = Template().document["Globals"]["Function"]["Runtime"]
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8").split()[0]
    assert project["requires-python"] == f">={badge('python').removesuffix('+')}"
    assert badge("lambda") == runtime
    assert badge("licence") == project["license"] == licence


def badge(name: str) -> str:
    """What a badge says, to the right of its name."""
    text = (ROOT / "docs" / "badges" / f"{name}.svg").read_text(encoding="utf-8")
    return re.findall(r"<text [^>]*>([^<]*)</text>", text)[1]


def test_what_is_logged_is_explained() -> None:
    operations = (
        (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Logs")[2].partition("\n## ")[0]
    )
    explained = {
        name for row in re.findall(r"^\| (`.*?) \|", operations, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "functions").glob("**/*.py"))
    assert explained == set(re.findall(r'(?:logger\.(?:warning|error)|LoggingBatchProcessor)\(\s*"(\w+)"', sources))


def test_commands_are_the_makefile_s() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [README, CONTRIBUTING, *((page.read_text(encoding="utf-8")) for page in (ROOT / "docs").glob("*.md"))]
    named = {
        name
        for page in pages
        for name in re.findall(r"(?:^ +|`)make ([a-z0-9-]+)(?:`| {2,}| [A-Z]+=|$)", page, re.MULTILINE)
    }
    assert "new-endpoint" in named
    assert named <= targets


def test_contributors_are_told_every_step_of_the_checks() -> None:
    code = re.sub(r" #.*|^#.*", "", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.MULTILINE)
    steps = set(re.findall(r"\b(make [a-z0-9-]+)", code))
    checks = CONTRIBUTING.partition("## Check your change")[2].partition("\n## ")[0]
    parts = {"make deployed": "make e2e", "make samlocal": "make e2e", "make web-adapter": "make e2e"}
    assert len(steps) > 15
    assert [step for step in sorted(steps) if f"`{parts.get(step, step)}" not in checks] == []


def test_github_runs_the_checks_and_may_write_nothing() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    [job] = workflow["jobs"].values()
    assert workflow["permissions"] == {"contents": "read"}
    assert "permissions" not in job
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_tables_have_their_heads() -> None:
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")):
        lines = ["", *page.read_text(encoding="utf-8").splitlines(), ""]
        begun = [n for n, line in enumerate(lines) if line.startswith("|") and not lines[n - 1].startswith("|")]
        assert [lines[n] for n in begun if not re.fullmatch(r"\|( *:?-+:? *\|)+", lines[n + 1])] == [], page


def test_the_architecture_names_the_folders_of_endpoints() -> None:
    said = ARCHITECTURE.partition("of the endpoints are ")[2].partition(". ")[0]
    routed = [f.module for f in Template().functions.values() if any(event.type == "HttpApi" for event in f.events)]
    assert set(re.findall(r"`(\w+)`", said)) == {module.partition(".")[0] for module in routed}
