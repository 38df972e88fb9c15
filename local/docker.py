"""Lambda's own image of its Python, as far as this machine has Docker for it."""

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

IMAGE = "public.ecr.aws/lambda/python:3.13"


@dataclass(frozen=True)
class Host:
    """This machine as containers reach it: what to bind to here, and what to call it there."""

    bind: str
    name: str

    @classmethod
    def find(cls) -> "Host":
        """Ask a container. Where there is a virtual machine in between, the loopback is what is reached from it."""
        there = run("--add-host=engine:host-gateway", "--entrypoint=cat", IMAGE, "/etc/hosts")
        address = next(line.split()[0] for line in there.splitlines() if line.split()[1:] == ["engine"])
        try:
            with socket.create_server((address, 0)):
                return cls(address, address)
        except OSError:
            return cls("127.0.0.1", "host.docker.internal")

    def seen(self, url: str) -> str:
        """A URL of this machine as a container has to write it."""
        return url.replace(self.bind, self.name)


def available() -> bool:
    """Whether there is a Docker engine, and the image is here or can be pulled."""
    return _works("info") and (_works("image", "inspect", IMAGE) or _works("pull", "--quiet", IMAGE))


def run(*arguments: str) -> str:
    """`docker run --rm`, and what it prints."""
    return output("run", "--rm", *arguments)


def output(*arguments: str) -> str:
    """What a Docker command prints. Raises CalledProcessError where it fails."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def python(script: str, folder: Path, *arguments: str) -> str:
    """Run a script in the image's Python, which sees `folder` at its own path and no network. Returns what it prints."""
    user = f"--user={os.getuid()}:{os.getgid()}"
    mount = f"--volume={folder}:{folder}"
    return run("--network=none", user, "--entrypoint=python3", mount, IMAGE, "-c", script, *arguments)


def _works(*arguments: str) -> bool:
    try:
        return subprocess.run(["docker", *arguments], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
