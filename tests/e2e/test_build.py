"""What `make build` has built: every function finds its modules compiled, by Lambda's own Python."""

import math
from collections.abc import Iterable
from pathlib import Path

from local.release.build import Built, built
from local.release.docker import Host
from local.release.imports import BUDGETS, measure_budgets, measure_imports

TRIES = 3


def test_every_source_of_every_function_has_its_bytecode() -> None:
    for function in built():
        assert sources(function.folder) == compiled(function.folder), function.name


def test_no_function_compiles_anything_as_it_starts(host: Host) -> None:
    functions = one_of_each_kind(built())
    answers = measure_imports(functions, bytecode=True)
    assert {name: answer["compiled"] for name, answer in answers.items()} == {each.name: [] for each in functions}
    [one, *_] = functions
    assert measure_imports([one], bytecode=False)[one.name]["compiled"], "what was compiled would not have been noticed"


def one_of_each_kind(functions: Iterable[Built]) -> list[Built]:
    """One function for each set of layers."""
    return list({function.layers: function for function in functions}.values())


def sources(folder: Path) -> set[Path]:
    return {path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py")}


def compiled(folder: Path) -> set[Path]:
    found = folder.rglob("__pycache__/*.cpython-313.pyc")
    return {path.relative_to(folder).parent.parent / path.name.partition(".")[0] for path in found}


def test_importing_costs_little_more_than_what_no_function_can_do_without(host: Host) -> None:
    """A ratio within one run: a slow machine is slow for both. Other work beside one of the two only spoils a try."""
    found = dict.fromkeys(BUDGETS, math.inf)
    for _ in range(TRIES):
        measured = measure_budgets(built())
        assert measured.keys() == BUDGETS.keys()
        found = {name: min(ratio, measured[name]) for name, ratio in found.items()}
        if all(ratio <= BUDGETS[name].ratio for name, ratio in found.items()):
            break
    over = {name: round(ratio, 2) for name, ratio in found.items() if ratio > BUDGETS[name].ratio}
    assert not over, f"the budgets are { {name: budget.ratio for name, budget in BUDGETS.items()} }"
