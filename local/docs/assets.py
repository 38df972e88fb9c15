"""Pack the assets of the documentation for a built function: `make build` runs this for each function of functions/docs.

Run it as its own process, because it imports the handlers. They make each asset from the sources in functions/.
"""

import argparse
import importlib
import sys
from pathlib import Path

from local.docs import openapi

MODULES = ("docs.openapi", "docs.page")


def pack(module: str, folder: Path) -> None:
    """Write the asset of a handler's module for the handlers in a folder."""
    openapi.set_environment()
    importlib.import_module(module).ASSET.pack(folder)


def main() -> int:
    """Pack one asset."""
    parser = argparse.ArgumentParser(prog="python -m local.docs.assets", description="Packs an asset.")
    parser.add_argument("module", choices=MODULES)
    parser.add_argument("folder", type=Path, help="the folder of the built handlers")
    arguments = parser.parse_args()
    pack(arguments.module, arguments.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
