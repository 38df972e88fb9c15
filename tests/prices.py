"""The price table of the tests. A test that counts credits does not depend on the tables that an operator edits.

tests/conftest.py lets all tests bill by tests/fixtures/prices. tests/unit/local/stack/test_prices.py checks the shipped tables.
Whole stacks, and functions that are deployed, read the shipped tables: their tests name no price.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "fixtures" / "prices"


def read_table() -> dict[str, Any]:
    """Return a copy of the tests' table, which the caller may change."""
    table: dict[str, Any] = json.loads((FOLDER / "beijing.json").read_text(encoding="utf-8"))
    return table


def change_model(model: str, **fields: Any) -> dict[str, Any]:
    """Return the tests' table with other fields of one model. A field that is None is taken away."""
    table = read_table()
    [entry] = [entry for entry in table["models"] if entry["model"] == model]
    entry.update(fields)
    for name in [name for name, value in fields.items() if value is None]:
        del entry[name]
    return table


def bill_by(folder: Path) -> None:
    """Let this process bill by the tables of a folder. The environment of functions must be set."""
    from aideer.billing import pricing

    pricing.TABLES = folder
    pricing.get_table.cache_clear()
