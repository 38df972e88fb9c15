"""`make web-adapter`: build AWS's Lambda Web Adapter from its crate, for the tests that run the streaming function under it.

AWS publishes the adapter as a layer, and a layer cannot be fetched without an account. The crate has the same sources. cargo builds
it once for each version and architecture, and the result stays in the user's cache folder: $XDG_CACHE_HOME/aideer, or
~/.cache/aideer. The folder has the layer's files as Lambda lays them into /opt.

The binary is linked statically, because the glibc of Lambda's image is older than that of many build machines. A static binary
needs neither musl nor a container to build.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

CRATE = "lambda_web_adapter"
VERSION = "1.0.0-rc1"
LAYER_VERSION = 27
"""The layer's version in template.yaml. It is release 1.0.0, whose last published crate is VERSION."""
EXTENSION = Path("extensions") / "lambda-adapter"
WRAPPER = Path("bootstrap")
_HOST = re.compile(r"^host: (\S+)$", re.MULTILINE)


class AdapterError(Exception):
    """The adapter cannot be built here. The message is for the console."""


def layer(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder with the adapter's layer, and build it first if it is not there. Raise AdapterError if that fails."""
    folder = cache_folder(environment)
    if not (folder / EXTENSION).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary) / "layer"
            _build(made, Path(temporary) / "root", environment)
            if not folder.exists():  # another process may have been faster
                made.rename(folder)
    return folder


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where the layer of this version and of this machine's architecture is, or will be."""
    cache = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "aideer" / f"{CRATE}-{VERSION}-{platform.machine()}"


def _build(made: Path, root: Path, environment: Mapping[str, str]) -> None:
    """Write the layer's files into the folder `made`. cargo installs into `root`."""
    cargo = shutil.which("cargo", path=environment.get("PATH"))
    if cargo is None:
        raise AdapterError(
            f"cargo is not here. It builds the Lambda Web Adapter, {CRATE} {VERSION}, under which the streaming function is "
            f"tested. Install Rust, or copy a built layer to {cache_folder(environment)}: {WRAPPER} and {EXTENSION}."
        )
    said = subprocess.run([cargo, "-vV"], capture_output=True, text=True, check=False).stdout
    host = _HOST.search(said)
    if host is None or "linux" not in host[1]:
        raise AdapterError(
            f"cargo builds for {host[1] if host else 'an unknown system'} here, and Lambda is Linux. Build the layer on Linux "
            f"with make web-adapter, and copy it to {cache_folder(environment)}."
        )
    # With a named target, the flags do not count for build scripts and macros, which cannot be static.
    command = [
        cargo,
        "install",
        "--quiet",
        "--locked",
        "--version",
        VERSION,
        "--target",
        host[1],
        "--root",
        str(root),
        CRATE,
    ]
    flags = {"RUSTFLAGS": "-C target-feature=+crt-static"}
    print(f"Building {CRATE} {VERSION}. This takes a minute or two, once.", flush=True)
    if subprocess.run(command, env={**environment, **flags}, check=False).returncode:
        raise AdapterError(
            f"cargo could not build {CRATE} {VERSION}: see above. It needs its registry, a C linker, and the C library for "
            "static linking (libc6-dev of Debian, glibc-static of Fedora)."
        )
    (made / EXTENSION).parent.mkdir(parents=True)
    shutil.copy2(root / "bin" / EXTENSION.name, made / EXTENSION)
    shutil.copy2(_wrapper(environment), made / WRAPPER)
    for file in (EXTENSION, WRAPPER):
        (made / file).chmod(0o755)


def _wrapper(environment: Mapping[str, str]) -> Path:
    """Return the layer's wrapper script in the crate's sources, which cargo has unpacked."""
    home = Path(environment.get("CARGO_HOME") or Path.home() / ".cargo")
    found = sorted(home.glob(f"registry/src/*/{CRATE}-{VERSION}/layer/{WRAPPER}"))
    if not found:
        raise AdapterError(
            f"cargo built {CRATE}, and its sources are not below {home}/registry/src. Is CARGO_HOME right?"
        )
    return found[0]


def main() -> int:
    """Build the layer if it is not there, and print where it is."""
    try:
        print(layer())
    except AdapterError as error:
        print(f"ERROR {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
