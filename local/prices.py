"""The price tables, checked before they are used: by functions/aideer/prices/schema.json, and by what no schema can say.

python -m local.prices     one clear sentence for each fault; `make build`, `make validate` and `make run` call it
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

TABLES = Path(__file__).resolve().parents[1] / "functions" / "aideer" / "prices"
SCHEMA = TABLES / "schema.json"


class PriceTableError(Exception):
    """A price table cannot be used. The message names the file, the model and the field, for the console."""


def regions() -> list[str]:
    """Return the provider's regions that there is a table for."""
    return sorted(path.stem for path in TABLES.glob("*.json") if path != SCHEMA)


def base_url(region: str) -> str:
    """Return DashScope's address in a region."""
    return str(json.loads((TABLES / f"{region}.json").read_text(encoding="utf-8"))["base_url"])


def check(folder: Path = TABLES) -> None:
    """Check all tables of a folder. Raises PriceTableError for the first fault."""
    for path in sorted(folder.glob("*.json")):
        if path.name != SCHEMA.name:
            check_table(path)


def check_table(path: Path) -> None:
    """Check one table. Raises PriceTableError for its first fault."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_repetition)
    except (ValueError, OSError) as error:
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
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)} is there twice")
    return result


def _check_schema(name: str, table: Any) -> None:
    import jsonschema  # a tool of the build: functions have none of it

    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    error = jsonschema.exceptions.best_match(validator.iter_errors(table))
    if error is None:
        return
    at = list(error.absolute_path)
    model = ""
    if at[:1] == ["models"] and len(at) > 1:
        entry = table["models"][at[1]]
        model = f"model {entry['model'] if isinstance(entry, dict) and 'model' in entry else f'number {at[1]}'}: "
        at = at[2:]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")
    raise PriceTableError(f"{name}: {model}{field + ': ' if field else ''}{error.message}")


def _faults(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """(field, what is wrong with it) of a model whose shape is right."""
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
    if entry["vision"] and entry["endpoint"] != "multimodal":
        faults.append(("vision", "needs the multimodal endpoint"))
    faults += [("confirm", f"names {name}, which is no field") for name in entry["confirm"] if name not in _FIELDS]
    return faults


_FIELDS = frozenset(json.loads(SCHEMA.read_text(encoding="utf-8"))["$defs"]["model"]["properties"])


def main() -> int:
    """Check, and say what is wrong."""
    try:
        check()
    except PriceTableError as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
