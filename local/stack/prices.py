"""Checks the price tables before they are used: by their JSON schema, and by rules that no schema can express.

The tables are in functions/aideer/billing/prices. `python -m local.stack.prices` prints one sentence about the first fault.
`make build`, `make validate` and `make run` run the same check.
"""

import itertools
import json
import re
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

TABLES = Path(__file__).resolve().parents[2] / "functions" / "aideer" / "billing" / "prices"
SCHEMA = TABLES / "schema.json"


class PriceTableError(Exception):
    """A price table cannot be used. The message names the file, the model and the field, for the console."""


def regions() -> list[str]:
    """Return the provider's regions that have a price table."""
    return sorted(path.stem for path in TABLES.glob("*.json") if path != SCHEMA)


def base_url(region: str) -> str:
    """Return DashScope's address in a region."""
    return str(json.loads((TABLES / f"{region}.json").read_text(encoding="utf-8"))["base_url"])


def check(folder: Path = TABLES) -> None:
    """Check all tables of a folder. Raise PriceTableError for the first fault."""
    for path in sorted(folder.glob("*.json")):
        if path.name != SCHEMA.name:
            check_table(path)


def check_table(path: Path) -> None:
    """Check one table. Raise PriceTableError for its first fault."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_repetition)
    except (ValueError, OSError, RecursionError) as error:
        raise PriceTableError(f"{path.name}: it cannot be read as JSON: {error}") from None
    _check_schema(path.name, table)
    if table["region"] != path.stem:
        raise PriceTableError(f"{path.name}: region is {table['region']}, and the file's name says {path.stem}.")
    seen: set[str] = set()
    for entry in table["models"]:
        if entry["model"] in seen:
            raise PriceTableError(f"{path.name}: model {entry['model']} is there twice.")
        seen.add(entry["model"])
        for field, fault in _faults(entry):
            raise PriceTableError(f"{path.name}: model {entry['model']}: {field} {fault}.")


def _no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{_printable(next(name for name in names if names.count(name) > 1))} is there twice")
    return result


def _printable(name: str) -> str:
    """Return a name as it is, or escaped if a console could not show it on one line."""
    return name if name.isprintable() else ascii(name)


def _check_schema(name: str, table: Any) -> None:
    import jsonschema  # a tool of the build, which functions do not have

    def full_pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[Any]:
        # Python's "$" also matches before a line feed at the end.
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")

    strict = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
        jsonschema.Draft202012Validator,
        {"pattern": full_pattern},
        # JSON Schema accepts 32768.0 as an integer. The provider, which receives such numbers, does not.
        type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
            "integer", lambda _, value: type(value) is int
        ),
    )
    validator = strict(json.loads(SCHEMA.read_text(encoding="utf-8")))
    error = jsonschema.exceptions.best_match(validator.iter_errors(table))
    if error is None:
        return
    at = list(error.absolute_path)
    model = ""
    if at[:1] == ["models"] and len(at) > 1:
        entry = table["models"][at[1]]
        named = entry.get("model") if isinstance(entry, dict) else None
        model = f"model {_printable(named) if isinstance(named, str) else f'number {at[1]}'}: "
        at = at[2:]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")
    raise PriceTableError(f"{name}: {model}{field + ': ' if field else ''}{error.message}")


def _faults(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (field, fault) pairs of a model that fits the schema."""
    faults, tiers = [], entry["tiers"]
    limits = [tier["up_to"] for tier in tiers]
    if limits != sorted(set(limits)):
        faults.append(("tiers", "do not rise in up_to"))
    if limits[-1] < entry["context"]:
        faults.append(("tiers", f"end at up_to {limits[-1]}, below the context of {entry['context']}"))
    for tier in tiers:
        if tier.get("cached", 0) > tier["input"]:
            faults.append(("tiers", f"have a cached price above input at up_to {tier['up_to']}"))
        if tier.get("thinking", tier["output"]) < tier["output"]:
            faults.append(("tiers", f"have a thinking price below output at up_to {tier['up_to']}"))
        if "thinking" in tier and entry["thinking"] == "never":
            faults.append(("tiers", "have a thinking price for a model that never thinks"))
    for lower, higher in itertools.pairwise(tiers):
        if set(lower) != set(higher):
            faults.append(("tiers", "have different prices"))
        elif fallen := next((name for name in lower if lower[name] > higher[name]), None):
            faults.append(("tiers", f"fall in {fallen} at up_to {higher['up_to']}: a longer prompt must not cost less"))
    faults += [
        (field, f"is {entry[field]}, above the context of {entry['context']}")
        for field in ("max_input", "max_output")
        if entry[field] > entry["context"]
    ]
    if entry.get("max_thinking", 0) > entry["context"]:
        faults.append(("max_thinking", f"is {entry['max_thinking']}, above the context of {entry['context']}"))
    added = {"image_tokens": entry.get("image_tokens", 0), "search.tokens": entry.get("search", {}).get("tokens", 0)}
    faults += [
        (field, f"is {tokens}, above the max_input of {entry['max_input']}")
        for field, tokens in added.items()
        if tokens > entry["max_input"]
    ]
    if (day := entry.get("retires_on")) and not _is_day(day):
        faults.append(("retires_on", f"is {day}, which is no day of the calendar"))
    if entry["vision"] and entry["endpoint"] != "multimodal":
        faults.append(("vision", "needs the multimodal endpoint"))
    faults += [("confirm", f"names {name}, which is no field") for name in entry["confirm"] if name not in _FIELDS]
    return faults


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


_FIELDS = frozenset(json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["model"]["properties"])


def main() -> int:
    """Check the tables, and print the first fault."""
    try:
        check()
    except PriceTableError as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
