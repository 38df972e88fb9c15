"""Pack the assets of a built function: `make build` runs this for each function of functions/docs, and for the web client's.

Run it as its own process, because it imports the handlers' modules. They make each asset from the sources in functions/.
"""

import argparse
import importlib
import sys
from pathlib import Path

from local.docs import openapi
from local.stack.template import ROOT

SITE = "web.file"
"""The module that serves the web client."""
MODULES = ("docs.openapi", "docs.page", SITE)

SOURCES = ROOT / "functions" / "web" / "site"


def pack(module: str, folder: Path) -> None:
    """Write the asset of a handler's module for the handlers in a folder."""
    openapi.set_environment()
    if module == SITE:
        importlib.import_module("aideer.web.site").pack(SOURCES, folder)
        return
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
