"""Checks the price tables before they are used: by their JSON schema, and by rules that no schema can express.

The tables are in functions/aideer/billing/prices. `python -m local.stack.prices` prints a line for each fault: the file, the model,
the field, what is wrong, and what is allowed. `make build`, `make validate` and `make run` run the same check.
"""

import functools
import itertools
import json
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from local.stack import price_schema

TABLES = Path(__file__).resolve().parents[2] / "functions" / "aideer" / "billing" / "prices"
SCHEMA = TABLES / "schema.json"


class PriceTableError(Exception):
    """A price table cannot be used. The message has a line for each fault, with the file, the model and the field."""


def regions() -> list[str]:
    """Return the provider's regions that have a price table."""
    return sorted(path.stem for path in TABLES.glob("*.json") if path != SCHEMA)


def base_url(region: str) -> str:
    """Return DashScope's address in a region."""
    return str(json.loads((TABLES / f"{region}.json").read_text(encoding="utf-8"))["base_url"])


def check(folder: Path = TABLES) -> None:
    """Check all tables of a folder. Raise PriceTableError with all of their faults."""
    tables = [path for path in sorted(folder.glob("*.json")) if path.name != SCHEMA.name]
    _refuse([fault for path in tables for fault in _find_faults(path)])


def check_table(path: Path) -> None:
    """Check one table. Raise PriceTableError with all of its faults."""
    _refuse(_find_faults(path))


def _refuse(faults: list[str]) -> None:
    if faults:
        raise PriceTableError("\n".join(faults))


def _find_faults(path: Path) -> list[str]:
    """Return a line for each fault of a table. Faults of single values hide those of the table as a whole."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_repetition)
    except (ValueError, OSError, RecursionError) as error:
        return [f"{path.name}: it cannot be read as JSON: {error}."]
    faults = price_schema.find_faults(table, _schema())
    if not faults:
        names = [entry["model"] for entry in table["models"]]
        faults = [
            f"model {name}: the table has it {names.count(name)} times. Allowed: once."
            for name in dict.fromkeys(names)
            if names.count(name) > 1
        ]
        if table["region"] != path.stem:
            faults.append(f'region is "{table["region"]}". Allowed: "{path.stem}", as in the file\'s name.')
        faults += [f"model {entry['model']}: {fault}" for entry in table["models"] for fault in _model_faults(entry)]
    return [f"{path.name}: {fault}" for fault in faults]


@functools.cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return schema


def _no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{price_schema.show(next(name for name in names if names.count(name) > 1))} is there twice")
    return result


def _model_faults(entry: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a model that fits the schema: the field, the fault, and what is allowed."""
    yield from _tier_faults(entry)
    context, most = entry["context"], entry["max_input"]
    for field in ("max_input", "max_output", "max_thinking"):
        if entry.get(field, 0) > context:
            yield f"{field} is {entry[field]}, above the context. Allowed: at most {context}."
    added = {"image_tokens": entry.get("image_tokens", 0), "search.tokens": entry.get("search", {}).get("tokens", 0)}
    for field, tokens in added.items():
        if tokens > most:
            yield f"{field} is {tokens}, above the max_input. Allowed: at most {most}."
    if (day := entry.get("retires_on")) and not _is_day(day):
        yield f"retires_on is {day}, which is no day of the calendar. Allowed: a day such as 2027-01-31."
    if entry["vision"] and entry["endpoint"] != "multimodal":
        yield f'vision is true, and endpoint is "{entry["endpoint"]}". Allowed: vision with the endpoint "multimodal".'
    fields = _schema()["$defs"]["model"]["properties"]
    for name in entry["confirm"]:
        if name not in fields:
            yield f"confirm names {name}, which is no field. Allowed: {', '.join(fields)}."


def _tier_faults(entry: dict[str, Any]) -> Iterator[str]:
    tiers = entry["tiers"]
    limits = [tier["up_to"] for tier in tiers]
    if limits != sorted(set(limits)):
        yield f"tiers do not rise in up_to ({', '.join(map(str, limits))}). Allowed: each up_to above the one before."
    if limits[-1] < entry["context"]:
        yield f"tiers end at up_to {limits[-1]}, below the context. Allowed: a last up_to of at least {entry['context']}."
    for at, tier in enumerate(tiers):
        if tier.get("cached", 0) > tier["input"]:
            yield f"tiers[{at}].cached is {tier['cached']}, above input. Allowed: at most {tier['input']}."
        if "thinking" in tier and entry["thinking"] == "never":
            yield f'tiers[{at}].thinking is a price, and thinking is "never". Allowed: no thinking price.'
        elif tier.get("thinking", tier["output"]) < tier["output"]:
            yield f"tiers[{at}].thinking is {tier['thinking']}, below output. Allowed: at least {tier['output']}."
    for at, (lower, higher) in enumerate(itertools.pairwise(tiers), 1):
        if set(lower) != set(higher):
            yield f"tiers[{at}] has other prices than tiers[{at - 1}]. Allowed: {', '.join(lower)} in each tier."
            continue
        for name in lower:
            if name != "up_to" and lower[name] > higher[name]:
                yield (
                    f"tiers[{at}].{name} is {higher[name]}, below the price of shorter prompts. "
                    f"Allowed: at least {lower[name]}."
                )


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def main() -> int:
    """Check the tables, and print each fault."""
    try:
        check()
    except PriceTableError as error:
        for fault in str(error).splitlines():
            print(f"ERROR {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
