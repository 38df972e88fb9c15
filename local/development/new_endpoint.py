"""`make new-endpoint NAME=chats/pin METHOD=PUT ROUTE='/chats/{id}/pin'`: write everything that a new endpoint needs.

It writes the handler, its event and its tests, and inserts the endpoint into template.yaml, the route matrix, the request samples
and the examples. If anything is wrong, it says so and changes nothing. Each TODO in the result says what to write there.
"""

import subprocess
import sys
from pathlib import Path

from local.development import insertions, skeletons
from local.development.endpoints import Endpoint, RefusedError, find_example_ids, parse
from local.stack.template import ROOT, Template

USAGE = "make new-endpoint NAME=chats/pin METHOD=PUT ROUTE='/chats/{id}/pin'"
TEMPLATE = "template.yaml"
MATRIX = "tests/route_matrix.py"
SAMPLES = "tests/request_samples.py"
EXAMPLES = "local/docs/examples.yaml"


def plan(endpoint: Endpoint, root: Path) -> dict[str, str]:
    """Return the new text of each file that the endpoint adds or changes, by its path.

    Raises
    ------
    RefusedError
        A file has no place for the endpoint's entry.
    """
    old = {path: (root / path).read_text(encoding="utf-8") for path in (TEMPLATE, MATRIX, SAMPLES, EXAMPLES)}
    request = skeletons.write_request(endpoint, insertions.known_segments(old[SAMPLES]))
    template = Template(root / TEMPLATE)
    samples = {SAMPLES: _format(insertions.insert_request(old[SAMPLES], endpoint, request))} if request else {}
    files = endpoint.files
    return {
        files["handler"]: _format(skeletons.write_handler(endpoint)),
        TEMPLATE: insertions.insert_resource(old[TEMPLATE], endpoint, skeletons.write_resource(endpoint), template),
        files["event"]: skeletons.write_event(endpoint, find_example_ids(endpoint, root)),
        files["tests"]: _format(skeletons.write_tests(endpoint)),
        MATRIX: insertions.insert_row(old[MATRIX], endpoint, skeletons.write_row(endpoint)),
        **samples,
        EXAMPLES: insertions.insert_example(old[EXAMPLES], endpoint, skeletons.write_example(endpoint)),
    }


def write(texts: dict[str, str], root: Path) -> None:
    """Write the files. If one cannot be written, undo the others."""
    before = {path: (root / path).read_bytes() if (root / path).exists() else None for path in texts}
    try:
        for path, text in texts.items():
            (root / path).parent.mkdir(exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
    except OSError:
        for path, content in before.items():
            if content is None:
                (root / path).unlink(missing_ok=True)
            elif (root / path).read_bytes() != content:
                (root / path).write_bytes(content)
        raise


def describe(endpoint: Endpoint, texts: dict[str, str]) -> str:
    """Return what was written, and the steps that follow."""
    handler, event, tests = endpoint.files.values()
    entries = {
        TEMPLATE: endpoint.logical_id,
        MATRIX: f"the row of {endpoint.method} {endpoint.route}",
        SAMPLES: f'"{endpoint.module}" in SENT',
        EXAMPLES: endpoint.operation,
    }
    width = max(map(len, texts))
    written = "\n".join(f"  {path:<{width}}  {entries.get(path, 'new')}" for path in texts)
    return f"""\
{endpoint.method} {endpoint.route} has its files:
{written}

Fill in every TODO, in this order:
  1. {handler}: the two docstrings, the summary, and a call of the domain.
     `user: {endpoint.caller}` says who may call: Visitor (anybody signed in), Member (users) or Admin. `errors` lists its refusals.
     A body is one more argument, a model of functions/aideer/schemas/.
  2. template.yaml, {endpoint.logical_id}: its description, and each action on each table that the call uses.
  3. {event}: the query, or the body with its header content-type, if it takes one.
  4. {tests}: its promises and its refusals. The tests fail until you write them.
  5. {MATRIX}: check the guesses. The row has the statuses of `errors`,
     and the status for a stranger, a visitor, the owner and an admin. If only the owner may call, the last one is 403.
     {_explain_request(endpoint, texts)}
  6. {EXAMPLES}: an example of the answer, and `request:` if the call takes a body.
  7. make docs

Then let the checks name what is missing:
  make lint types
  make test-fast
  make test ARGS={tests}
  make test ARGS='tests/integration/test_matrix.py -k "{endpoint.method} and {_last_word(endpoint)}"'
"""


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Make the endpoint, and return the exit code."""
    if len(arguments) != 3 or not all(arguments):
        print(f"NAME, METHOD and ROUTE are needed: {USAGE}", file=sys.stderr)
        return 2
    try:
        name, method, route = arguments
        endpoint = parse(name, method, route, root)
        texts = plan(endpoint, root)
        write(texts, root)
    except (RefusedError, OSError) as error:
        print(f"{str(error).rstrip('.')}. Nothing was changed.", file=sys.stderr)
        return 1
    print(describe(endpoint, texts), end="")
    return 0


def _format(source: str) -> str:
    """Return Python source in the project's format."""
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "-"]
    return subprocess.run(command, input=source, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def _explain_request(endpoint: Endpoint, texts: dict[str, str]) -> str:
    if SAMPLES in texts:
        return f"{SAMPLES}: the values of the path's parameters in SENT."
    return f'{SAMPLES}: an entry "{endpoint.module}" in SENT, if the call takes a query or a body.'


def _last_word(endpoint: Endpoint) -> str:
    """Return the last segment of the route that is no parameter, because pytest's -k takes no braces."""
    return next(part for part in reversed(endpoint.route.split("/")) if not part.startswith("{"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
