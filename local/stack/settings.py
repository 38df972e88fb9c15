"""The environment of `make run`: read and check every variable that it uses."""

import os
import re
import shlex
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from local.stack import prices

T = TypeVar("T")
NAMES = (
    "PORT",
    "STATE_DIR",
    "WORKERS",
    "ALLOWED_ORIGINS",
    "ALLOWED_HOSTS",
    "PROVIDER_REGION",
    "DASHSCOPE_API_KEY",
    "DASHSCOPE_HTTP_BASE_URL",
    "WECHAT_APPID",
    "WECHAT_SECRET",
    "WECHAT_WEB_APPID",
    "WECHAT_WEB_SECRET",
    "WECHAT_BASE_URL",
    "WECHAT_OPEN_URL",
    "WECHAT_LOGIN_PAGE",
    "ADMIN_USERNAME",
    "ADMIN_PASSWORD",
    "SIGNUP_CREDITS",
    "UNCOVERED_CREDITS",
    "OPEN_TASKS",
    "THROTTLES",
    "MOST_CHATS",
    "LEASE_SECONDS",
    "SWEEP_SECONDS",
)
"""Every variable that Settings reads."""
NO_PAGE = "none"
"""As WECHAT_LOGIN_PAGE: the callback of the website sign-in answers tokens, as in a deployment without WechatLoginPage."""
SECRETS = ("DASHSCOPE_API_KEY", "WECHAT_SECRET", "WECHAT_WEB_SECRET", "ADMIN_PASSWORD")
"""Secrets. Functions read them as they do when deployed, and not from the environment."""

SIMULATED_WECHAT = {
    "wechat_appid": "wx0000000000local01",
    "wechat_secret": "local-mini-program-secret",
    "wechat_web_appid": "wx0000000000local02",
    "wechat_web_secret": "local-website-secret",
}
"""The mini program and the website that local/simulators/wechat.py knows."""

THROTTLES = (
    "all",
    "sign_in",
    "sign_in_address",
    "sign_in_name",
    "sign_up",
    "wechat",
    "wechat_refresh",
    "password",
    "name",
    "link",
    "hash",
    "redeem",
    "stream",
    "resume",
    "follow_task",
    "follow",
    "poll",
    "ask",
    "estimate",
    "answer",
    "answer_day",
    "stop",
    "avatar",
    "copy",
    "replace",
    "delete_chats",
    "preset",
    "upload",
    "upload_size",
    "search",
    "read",
    "write",
    "share",
    "shared",
    "shared_read",
    "feedback",
    "key",
)
"""The rate limits of aideer/security/limits.py."""
UNTHROTTLED = "all=1000000/60"
"""A limit too high to reach. On a developer's machine all clients share one address, and tests make many requests."""


DEFAULT_PORT = 8000
DEFAULT_STATE_DIR = ".local"
DEFAULT_ADMIN = ("admin", "admin123")
_NAME = r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?"
ORIGIN = rf"\*|[a-z][a-z0-9+.-]*://{_NAME}"
HOST = _NAME


class SettingsError(Exception):
    """A variable has a value that cannot be used. The message is for the console."""


@dataclass(frozen=True)
class Settings:
    """The settings of the local stack."""

    port: int
    state_dir: Path
    workers: int
    allowed_origins: tuple[str, ...]
    """Web origins that may read answers, in addition to the stack's own. ("*",) allows all."""
    allowed_hosts: tuple[str, ...]
    """Host values that requests may have, in addition to the loopback's. A name without a port allows all ports."""
    provider_region: str
    dashscope_api_key: str
    dashscope_base_url: str
    wechat_appid: str
    wechat_secret: str
    wechat_web_appid: str
    wechat_web_secret: str
    wechat_base_url: str
    wechat_open_url: str
    wechat_login_page: str
    admin_username: str
    admin_password: str
    signup_credits: int
    uncovered_credits: int
    open_tasks: int
    throttles: str
    most_chats: int
    lease_seconds: float
    sweep_seconds: float

    @property
    def url(self) -> str:
        """The base URL of the stack."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def simulates_dashscope(self) -> bool:
        """Whether the simulated DashScope answers: no key and no address of a real one is set."""
        return not (self.dashscope_api_key or self.dashscope_base_url)

    @property
    def simulates_wechat(self) -> bool:
        """Whether the simulated WeChat signs users in: no app id and no address of a real one is set."""
        return not (self.wechat_appid or self.wechat_web_appid or self.wechat_base_url)

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings from the environment. An empty variable counts as unset.

        Raises
        ------
        SettingsError
            A variable has a value that cannot be used. The message contains no secret.
        """
        integer = _number(environ, int, r"-?[0-9]{1,15}", "a whole number")
        decimal = _number(environ, float, r"-?[0-9]{1,9}(\.[0-9]{0,9})?", "a number")
        _refuse_halves(environ)
        port = integer("PORT", DEFAULT_PORT, 1, 65535)
        return cls(
            port=port,
            state_dir=state_dir(environ),
            workers=integer("WORKERS", 4, 1, 64),
            allowed_origins=_list(environ, "ALLOWED_ORIGINS", ORIGIN, "origins like https://app.example"),
            allowed_hosts=_list(environ, "ALLOWED_HOSTS", HOST, "hosts like app.example or app.example:8000"),
            provider_region=_region(environ),
            dashscope_api_key=_secret(environ, "DASHSCOPE_API_KEY"),
            dashscope_base_url=_address(environ, "DASHSCOPE_HTTP_BASE_URL").rstrip("/"),
            wechat_appid=_secret(environ, "WECHAT_APPID"),
            wechat_secret=_secret(environ, "WECHAT_SECRET"),
            wechat_web_appid=_secret(environ, "WECHAT_WEB_APPID"),
            wechat_web_secret=_secret(environ, "WECHAT_WEB_SECRET"),
            wechat_base_url=_address(environ, "WECHAT_BASE_URL").rstrip("/"),
            wechat_open_url=_address(environ, "WECHAT_OPEN_URL").rstrip("/"),
            wechat_login_page=_login_page(environ, port),
            admin_username=environ.get("ADMIN_USERNAME") or DEFAULT_ADMIN[0],
            admin_password=environ.get("ADMIN_PASSWORD") or DEFAULT_ADMIN[1],
            throttles=_throttles(environ),
            most_chats=integer("MOST_CHATS", 10_000, 1, 10**9),
            signup_credits=integer("SIGNUP_CREDITS", 1_000_000, 0, 10**12),
            uncovered_credits=integer("UNCOVERED_CREDITS", 1_000_000, 1, 10**12),
            open_tasks=integer("OPEN_TASKS", 5, 1, 1000),
            lease_seconds=decimal("LEASE_SECONDS", 45, 1, 120),
            sweep_seconds=decimal("SWEEP_SECONDS", 60, 1, 3600),
        )


def state_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Read STATE_DIR alone, for a command that does not use the other variables.

    Raises
    ------
    SettingsError
        It begins with the home of an unknown user, or its symbolic links form a loop.
    """
    try:
        return Path(environ.get("STATE_DIR") or DEFAULT_STATE_DIR).expanduser().resolve()
    except (RuntimeError, OSError):  # no such user; a loop of symbolic links
        raise SettingsError(f"STATE_DIR={environ.get('STATE_DIR')} is no folder.") from None


def command(name: str, state_dir: Path) -> str:
    """Return the command that runs a make target for the stack of this folder."""
    if state_dir == Path(DEFAULT_STATE_DIR).resolve():
        return f"make {name}"
    return f"STATE_DIR={shlex.quote(str(state_dir))} make {name}"


def hide_secrets() -> None:
    """Remove the secrets from this process's environment, before it runs functions."""
    for name in SECRETS:
        os.environ.pop(name, None)


def _region(environ: Mapping[str, str]) -> str:
    name = environ.get("PROVIDER_REGION") or "beijing"
    if name not in prices.regions():
        raise SettingsError(f"PROVIDER_REGION={name} is none of {', '.join(prices.regions())}")
    return name


def _throttles(environ: Mapping[str, str]) -> str:
    text = environ.get("THROTTLES") or UNTHROTTLED
    limit = rf"({'|'.join(THROTTLES)})=[1-9]\d{{0,8}}/[1-9]\d{{0,5}}"
    if not re.fullmatch(rf"{limit}( {limit})*", text):
        raise SettingsError(f"THROTTLES={text} is not like redeem=20/3600 stream=300/60, of {', '.join(THROTTLES)}")
    return text


def _refuse_halves(environ: Mapping[str, str]) -> None:
    for first, second in (("WECHAT_APPID", "WECHAT_SECRET"), ("WECHAT_WEB_APPID", "WECHAT_WEB_SECRET")):
        given = [name for name in (first, second) if environ.get(name)]
        if len(given) == 1:
            missing = second if given == [first] else first
            raise SettingsError(f"{given[0]} is set and {missing} is not. WeChat wants both.")


def _secret(environ: Mapping[str, str], name: str) -> str:
    """Return a value that goes unescaped into a header or an address."""
    value = environ.get(name, "")
    if not re.fullmatch(r"[!-~]*", value):
        raise SettingsError(f"{name} has a space, a line break or another character that no such value has.")
    return value


def _address(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name, "")
    try:
        parts = urllib.parse.urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if text and (not usable or re.search(r"[^!-~]", text)):
        raise SettingsError(f"{name}={text} is no address like https://example.com/path")
    return text


def _login_page(environ: Mapping[str, str], port: int) -> str:
    """Return the page that receives tickets: the stack's own, another one, or "" for none."""
    if environ.get("WECHAT_LOGIN_PAGE") == NO_PAGE:
        return ""
    return _address(environ, "WECHAT_LOGIN_PAGE") or f"http://127.0.0.1:{port}/"


def _list(environ: Mapping[str, str], name: str, pattern: str, noun: str) -> tuple[str, ...]:
    text = environ.get(name, "")
    items = tuple(item.rstrip("/").lower() for item in re.split(r"[,\s]+", text) if item)
    if not all(re.fullmatch(pattern, item) for item in items):
        raise SettingsError(f"{name}={text} is no list of {noun}, with commas between them")
    return items


def _number(
    environ: Mapping[str, str], kind: Callable[[str], T], pattern: str, noun: str
) -> Callable[[str, float, float, float], T]:
    def read(name: str, default: float, low: float, high: float) -> T:
        text = (environ.get(name) or str(default)).strip()
        if not re.fullmatch(pattern, text) or not low <= float(text) <= high:
            raise SettingsError(f"{name}={text} is not {noun} from {low:.15g} to {high:.15g}")
        return kind(text)

    return read
