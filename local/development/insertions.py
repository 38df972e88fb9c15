"""Insert the entries of a new endpoint into existing files. Every other line stays as it is, including comments and layout."""

import ast
import re
from collections.abc import Callable

from local.development.endpoints import Endpoint, RefusedError, routes_of
from local.stack.template import Template


def insert_resource(text: str, endpoint: Endpoint, entry: str, template: Template) -> str:
    """Insert a function into template.yaml behind the last endpoint of its resource, and into the lists that keep it warm."""
    neighbours = [
        function.name
        for function in template.functions.values()
        if routes_of(function) and function.module.startswith(f"{endpoint.resource}.")
    ]
    text = _insert_behind(text, lambda line: line.strip(" :\n") in neighbours, r" {0,2}\S", entry, "template.yaml")
    return _insert_warm(text, endpoint.logical_id, neighbours)


def _insert_warm(text: str, name: str, neighbours: list[str]) -> str:
    """Name a function in the rule that keeps functions warm, and in one policy of the function that it calls."""
    any_neighbour = "|".join(neighbours)
    policies, found, rule = text.partition("\n  KeepWarmRule:")
    policies = _insert_before_last(
        policies, rf' +- !(GetAtt |Sub "\${{)({any_neighbour})\.Arn', f"- !GetAtt {name}.Arn"
    )
    rule = _insert_before_last(rule, rf' +"\${{.*\b({any_neighbour})}}', f'"${{{name}}}",')
    return policies + found + rule


def _insert_before_last(text: str, pattern: str, entry: str) -> str:
    """Insert an entry before the last line that matches, and as far to the right."""
    lines = text.splitlines(keepends=True)
    last = max((at for at, line in enumerate(lines) if re.match(pattern, line)), default=None)
    if last is None:
        raise RefusedError(
            "template.yaml keeps no function of the resource warm, so nothing says where the new one belongs."
        )
    indent = lines[last][: -len(lines[last].lstrip())]
    return "".join([*lines[:last], f"{indent}{entry}\n", *lines[last:]])


def insert_row(text: str, endpoint: Endpoint, entry: str) -> str:
    """Insert a row into tests/route_matrix.py behind the last row of its resource."""
    row = re.compile(rf"[A-Z]+ +/{endpoint.resource}[/ ][^|]*\|")
    return _insert_behind(text, lambda line: bool(row.match(line)), "", entry, "tests/route_matrix.py")


def insert_request(text: str, endpoint: Endpoint, entry: str) -> str:
    """Insert an entry into SENT of tests/request_samples.py behind the last entry of its resource, or at the end."""
    head, found, rest = text.partition("\nSENT: ")
    sent, end, tail = rest.partition("\n}\n")
    if not found or not end:
        raise RefusedError("tests/request_samples.py has no SENT to insert the request into.")
    lines = sent.splitlines(keepends=True)
    if not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    places = [at for at, line in enumerate(lines) if re.match(r'    "', line)]
    own = [at for at in places if lines[at].startswith(f'    "{endpoint.resource}.')]
    at = next((place for place in places if own and place > own[-1]), len(lines))
    return head + found + "".join([*lines[:at], entry, *lines[at:]]).rstrip("\n") + end + tail


def insert_example(text: str, endpoint: Endpoint, entry: str) -> str:
    """Insert an example into local/docs/examples.yaml behind the last one of its resource."""
    own = re.compile(rf"  {endpoint.resource}_\w+:")
    return _insert_behind(text, lambda line: bool(own.match(line)), r" {0,2}\S", entry, "local/docs/examples.yaml")


def known_segments(text: str) -> set[str]:
    """Return the segments whose parameters tests/request_samples.py knows: the keys of its IDS."""
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "IDS" and statement.value:
            return {ast.literal_eval(key) for key in ast.walk(statement.value) if isinstance(key, ast.Constant)}
    raise RefusedError("tests/request_samples.py has no IDS to read the known parameters from.")


def _insert_behind(text: str, begins: Callable[[str], bool], ends: str, entry: str, name: str) -> str:
    """Insert an entry behind the last block that begins so. A block ends before the next line that matches `ends`.

    An entry that ends with an empty line keeps one between two blocks. Any other entry follows its block directly.
    """
    lines = text.splitlines(keepends=True)
    first = max((at for at, line in enumerate(lines) if begins(line)), default=None)
    if first is None:
        raise RefusedError(f"{name} has no entry of the resource, so nothing says where the new one belongs.")
    at = next((at for at in range(first + 1, len(lines)) if re.match(ends, lines[at])), len(lines))
    while not entry.endswith("\n\n") and not lines[at - 1].strip():
        at -= 1
    return "".join([*lines[:at], entry, *lines[at:]])
