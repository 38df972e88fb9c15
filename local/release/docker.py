"""Lambda's own Python image, if this machine has Docker."""

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

IMAGE = "public.ecr.aws/lambda/python:3.13"


@dataclass(frozen=True)
class Host:
    """This machine, as containers reach it: the address to bind here, and the host name to use there."""

    bind: str
    name: str

    @classmethod
    def find(cls) -> "Host":
        """Ask a container. If Docker runs in a virtual machine, containers reach this machine's loopback address."""
        there = run("--add-host=engine:host-gateway", "--entrypoint=cat", IMAGE, "/etc/hosts")
        address = next(line.split()[0] for line in there.splitlines() if line.split()[1:] == ["engine"])
        try:
            with socket.create_server((address, 0)):
                return cls(address, address)
        except OSError:
            return cls("127.0.0.1", "host.docker.internal")

    def seen(self, url: str) -> str:
        """Return a URL of this machine in the form that a container needs."""
        return url.replace(self.bind, self.name)


def available() -> bool:
    """Return whether a Docker engine runs, and the image is here or can be pulled."""
    return _works("info") and (_works("image", "inspect", IMAGE) or _works("pull", "--quiet", IMAGE))


def run(*arguments: str) -> str:
    """Run `docker run --rm`, and return its output."""
    return output("run", "--rm", *arguments)


def output(*arguments: str) -> str:
    """Return the output of a Docker command. Raise CalledProcessError if it fails."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def python(script: str, folder: Path, *arguments: str) -> str:
    """Run a script in the image's Python, with `folder` at its own path and without network. Return its output."""
    user = f"--user={os.getuid()}:{os.getgid()}"
    mount = f"--volume={folder}:{folder}"
    return run("--network=none", user, "--entrypoint=python3", mount, IMAGE, "-c", script, *arguments)


def _works(*arguments: str) -> bool:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
