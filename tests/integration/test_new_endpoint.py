"""`make new-endpoint`: a new endpoint gets all its files, and the rest of the project stays as it is."""

import importlib
import json
import shutil
from pathlib import Path

import pytest

from local.development import new_endpoint, skeletons
from local.development.endpoints import Endpoint, find_example_ids, parse
from local.stack.template import ROOT, Template

SMALL = Path(__file__).parents[1] / "fixtures/small-project"
RESOURCES = ("admin", "chats", "codes", "presets", "session", "tasks", "users")
ENDPOINTS = [
    ("chats/pin", "PUT", "/chats/{id}/pin"),
    ("presets/popular", "GET", "/presets/popular"),
    ("tasks/delete_log", "DELETE", "/tasks/{id}/log"),
    ("codes/renew", "POST", "/codes/{code}/renew"),
    ("chats/get_note", "GET", "/chats/{id}/notes/{n}"),
    ("session/list", "GET", "/session/all"),
]
each_endpoint = pytest.mark.parametrize("asked", ENDPOINTS, ids=lambda asked: asked[0])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the small project, which has what the command reads. Nobody adds endpoints to it."""
    folder = shutil.copytree(SMALL, tmp_path / "project")
    (folder / "tests/integration").mkdir()
    return folder


def contents(project: Path) -> dict[str, str]:
    """The text of every file, by its path."""
    return {str(path.relative_to(project)): path.read_text("utf-8") for path in project.rglob("*") if path.is_file()}


@each_endpoint
def test_it_writes_new_files_and_adds_lines_to_others(project: Path, asked: tuple[str, str, str]) -> None:
    before = contents(project)
    assert new_endpoint.main([*asked], project) == 0
    after = contents(project)
    resource, _, verb = asked[0].partition("/")
    assert after.keys() - before.keys() == {
        f"functions/{resource}/{verb}.py",
        f"events/{resource}/{verb}.json",
        f"tests/integration/test_{resource}_{verb}.py",
    }
    changed = {path for path in before if after[path] != before[path]}
    samples = {"tests/request_samples.py"} if "{n}" in asked[2] else set()
    assert changed == {"template.yaml", "tests/route_matrix.py", "local/docs/examples.yaml"} | samples
    for path in changed:
        rest = iter(after[path].splitlines())
        assert all(line in rest for line in before[path].splitlines()), f"{path} keeps every line, in its order"


@each_endpoint
def test_the_template_routes_the_call_to_the_handler(project: Path, asked: tuple[str, str, str]) -> None:
    name, method, route = asked
    before = set(Template(project / "template.yaml").functions)
    new_endpoint.main([*asked], project)
    functions = Template(project / "template.yaml").functions
    added = set(functions) - before
    [function] = [functions[logical_id] for logical_id in added]
    assert function.handler == f"{name.replace('/', '.')}.handler"
    [event] = function.events
    assert (event.properties["Method"], event.properties["Path"]) == (method, f"/api/v1{route}")


def test_the_function_stands_behind_the_last_endpoint_of_its_resource(project: Path) -> None:
    new_endpoint.main(["tasks/delete_log", "DELETE", "/tasks/{id}/log"], project)
    names = list(Template(project / "template.yaml").functions)
    at = names.index("TasksDeleteLogFunction")
    assert names[at - 1 : at + 2] == ["TasksDeleteFunction", "TasksDeleteLogFunction", "TasksOnQueuedFunction"]


@each_endpoint
def test_the_function_is_kept_warm(project: Path, asked: tuple[str, str, str]) -> None:
    new_endpoint.main([*asked], project)
    template = project / "template.yaml"
    [name] = [
        found.name for found in Template(template).functions.values() if found.module == asked[0].replace("/", ".")
    ]
    resources = Template(template).document["Resources"]
    policies = [resources[policy]["Properties"]["PolicyDocument"] for policy in ("KeepWarmPolicy1", "KeepWarmPolicy2")]
    assert str(policies).count(f"'{name}'") == 1
    [target] = resources["KeepWarmRule"]["Properties"]["Targets"]
    names = json.loads(target["Input"]["Fn::Sub"])["functions"]
    assert names.count(f"${{{name}}}") == 1


@pytest.mark.parametrize("resource", RESOURCES)
def test_the_real_project_has_a_place_for_each_entry_of_an_endpoint(resource: str) -> None:
    endpoint = parse(f"{resource}/probe_new_endpoint", "GET", f"/{resource}/probe-new-endpoint/{{n}}", ROOT)
    texts = new_endpoint.plan(endpoint, ROOT)
    changed = {"template.yaml", "tests/route_matrix.py", "tests/request_samples.py", "local/docs/examples.yaml"}
    assert texts.keys() == {*endpoint.files.values(), *changed}
    for path in changed:
        rest = iter(texts[path].splitlines())
        assert all(line in rest for line in (ROOT / path).read_text("utf-8").splitlines()), f"{path} keeps every line"


@each_endpoint
def test_every_decision_is_a_todo_that_the_checks_find(project: Path, asked: tuple[str, str, str]) -> None:
    new_endpoint.main([*asked], project)
    files = {todo.partition(":")[0] for todo in skeletons.find_todos(project)}
    written = Endpoint(*asked[0].split("/"), *asked[1:]).files
    assert files >= {written["handler"], written["tests"], "template.yaml", "local/docs/examples.yaml"}


@each_endpoint
def test_the_tests_fail_until_somebody_writes_them(project: Path, asked: tuple[str, str, str]) -> None:
    new_endpoint.main([*asked], project)
    path = Endpoint(*asked[0].split("/"), *asked[1:]).files["tests"]
    names: dict[str, object] = {}
    exec(compile((project / path).read_text("utf-8"), path, "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_") and callable(value)]
    assert len(tests) == 2
    for test in tests:
        with pytest.raises(pytest.fail.Exception, match="TODO"):
            test(None, None)


@pytest.mark.parametrize(
    ("asked", "signature"),
    [
        (ENDPOINTS[0], "def pin(user: Visitor, id: ChatId) -> DoneResponse:"),
        (ENDPOINTS[1], "def popular(user: Visitor) -> DoneResponse:"),
        (ENDPOINTS[3], "def renew(user: Admin, code: str) -> DoneResponse:"),
        (ENDPOINTS[4], "def get_note(user: Visitor, id: ChatId, n: str) -> DoneResponse:"),
        (ENDPOINTS[5], "def list_(user: Visitor) -> DoneResponse:"),
        (("presets/import_file", "POST", "/presets"), None),
        (("presets/merge", "POST", "/presets/merge"), "def merge(user: Member) -> DoneResponse:"),
    ],
    ids=lambda part: part[0] if isinstance(part, tuple) else "",
)
def test_a_handler_has_typed_arguments(project: Path, asked: tuple[str, str, str], signature: str | None) -> None:
    done = new_endpoint.main([*asked], project) == 0
    assert done == (signature is not None), "POST /presets exists already"
    if signature:
        assert signature in (project / f"functions/{asked[0]}.py").read_text("utf-8")


def test_types_of_ids_are_there() -> None:
    for module, name in skeletons.ID_TYPES.values():
        assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", ["chats/delete", "tasks/get", "codes/get", "users/like_preset", "users/me"])
def test_an_event_is_written_as_its_neighbours_are(name: str) -> None:
    text = (ROOT / f"events/{name}.json").read_text("utf-8")
    method, _, path = json.loads(text)["routeKey"].partition(" ")
    endpoint = Endpoint(*name.split("/"), method, path.removeprefix("/api/v1"))
    assert skeletons.write_event(endpoint, find_example_ids(endpoint, ROOT)) == text


@pytest.mark.parametrize(
    ("asked", "row"),
    [
        (
            ENDPOINTS[0],
            "PUT    /chats/{id}/pin                  | access  | 200 403 404 422                 | 403 403 200 200",
        ),
        (
            ENDPOINTS[1],
            "GET    /presets/popular                 | access  | 200                             | 200 200 200 200",
        ),
        (
            ENDPOINTS[2],
            "DELETE /tasks/{id}/log                  | access  | 200 404 422                     | 404 404 200 404",
        ),
        (
            ENDPOINTS[3],
            "POST   /codes/{code}/renew              | access  | 200 403 404 422                 | 403 403 403 200",
        ),
    ],
    ids=lambda part: part[0] if isinstance(part, tuple) else "",
)
def test_a_row_has_the_statuses_of_its_neighbours(project: Path, asked: tuple[str, str, str], row: str) -> None:
    new_endpoint.main([*asked], project)
    assert row in (project / "tests/route_matrix.py").read_text("utf-8").splitlines()


def test_a_parameter_that_the_samples_do_not_know_gets_a_request(project: Path) -> None:
    new_endpoint.main([*ENDPOINTS[4]], project)
    lines = (project / "tests/request_samples.py").read_text("utf-8").splitlines()
    [at] = [at for at, line in enumerate(lines) if line.startswith('    "chats.get_note"')]
    assert 'IDS["chats"](w)' in lines[at]
    assert lines[at - 1].startswith('    "chats.')


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("", "PUT", "/chats/{id}/pin"), "NAME, METHOD and ROUTE are needed"),
        (("Chats/pin", "PUT", "/chats/{id}/pin"), "NAME is <resource>/<verb>"),
        (("chats/../pin", "PUT", "/chats/{id}/pin"), "NAME is <resource>/<verb>"),
        (("chats/pin", "PATCH", "/chats/{id}/pin"), 'METHOD is GET, POST, PUT or DELETE: not "PATCH"'),
        (("chats/pin", "PUT", "chats/{id}/pin"), "ROUTE is a path without /api/v1"),
        (("chats/pin", "PUT", "/api/v1/chats/{id}/pin"), "ROUTE is a path without /api/v1"),
        (("chats/pin", "PUT", "/chats/{id/pin"), "ROUTE is a path without /api/v1"),
        (("chats/pin", "PUT", "/chats/{id}/{id}"), "A parameter stands twice in ROUTE"),
        (("chats/pin", "PUT", "/tasks/{id}/pin"), "ROUTE begins with /chats"),
        (("tags/pin", "PUT", "/tags/{id}"), "NAME begins with an existing resource (admin, chats, codes"),
        (("jobs/pin", "PUT", "/jobs/{id}"), "NAME begins with an existing resource"),
        (("chats/import", "PUT", "/chats/import"), '"import" has another meaning'),
        (("chats/pin", "PUT", "/chats/{user}/pin"), '"user" has another meaning'),
        (("chats/pin", "PUT", "/chats/{chat}"), "PUT /chats/{chat} exists already: ChatsUpdateFunction"),
        (("chats/copy", "PUT", "/chats/copy"), "functions/chats/copy.py exists already"),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, tuple) else "",
)
def test_a_mistake_is_named_in_one_sentence_and_changes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str], asked: tuple[str, str, str], reason: str
) -> None:
    before = contents(project)
    assert new_endpoint.main([*asked], project) != 0
    assert contents(project) == before
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(reason)
    assert told.err.count("\n") == 1


def test_a_file_that_cannot_be_written_undoes_the_others(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(project / "events/chats")
    (project / "events/chats").write_text("no folder", encoding="utf-8")
    before = contents(project)
    assert new_endpoint.main([*ENDPOINTS[0]], project) == 1
    assert contents(project) == before
    assert "Nothing was changed." in capsys.readouterr().err


@each_endpoint
def test_the_report_lists_each_file_and_each_step(
    project: Path, capsys: pytest.CaptureFixture[str], asked: tuple[str, str, str]
) -> None:
    endpoint = parse(*asked, project)
    texts = new_endpoint.plan(endpoint, project)
    assert new_endpoint.main([*asked], project) == 0
    told = capsys.readouterr().out
    written, _, steps = told.partition("Fill in every TODO")
    assert all(path in written for path in texts)
    assert [line[2] for line in steps.splitlines() if line[2:3].isdigit()] == list("1234567")
    assert all(path in steps for path in texts)
    assert "make docs" in steps
