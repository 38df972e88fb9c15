"""The environment of `make run`: every name that it reads, checked."""

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
SECRETS = ("DASHSCOPE_API_KEY", "WECHAT_SECRET", "WECHAT_WEB_SECRET", "ADMIN_PASSWORD")
"""What functions learn as they do when deployed, and not from the environment."""

SIMULATED_WECHAT = {
    "wechat_appid": "wx0000000000local01",
    "wechat_secret": "local-mini-program-secret",
    "wechat_web_appid": "wx0000000000local02",
    "wechat_web_secret": "local-website-secret",
}
"""The mini program and the website that local/wechat.py knows."""

THROTTLES = (
    "all",
    "sign_in",
    "sign_in_address",
    "sign_in_name",
    "sign_up",
    "wechat",
    "password",
    "link",
    "redeem",
    "stream",
)
"""What aideer/throttling.py limits."""
UNTHROTTLED = "all=1000000/60"
"""On one's own machine everybody has one address, and tests make many requests."""


class SettingsError(Exception):
    """A variable has a value that cannot be used. The message is for the console."""


@dataclass(frozen=True)
class Settings:
    """What the local stack is asked to be."""

    port: int
    state_dir: Path
    workers: int
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
    throttles: str
    lease_seconds: float
    sweep_seconds: float

    @property
    def url(self) -> str:
        """Where the stack is served."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def simulates_dashscope(self) -> bool:
        """Whether answers come from the simulated DashScope: nothing says where a real one is."""
        return not (self.dashscope_api_key or self.dashscope_base_url)

    @property
    def simulates_wechat(self) -> bool:
        """Whether people sign in at the simulated WeChat: nothing says which application this is at a real one."""
        return not (self.wechat_appid or self.wechat_web_appid or self.wechat_base_url)

    @classmethod
    def read(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Read them from the environment; an empty variable counts as one that is not set.

        Raises
        ------
        SettingsError
            A variable is no number, or out of its range.
        """
        integer, decimal = _number(environ, int, "a whole number"), _number(environ, float, "a number")
        return cls(
            port=integer("PORT", 8000, 1, 65535),
            state_dir=Path(environ.get("STATE_DIR") or ".local").resolve(),
            workers=integer("WORKERS", 4, 1, 64),
            dashscope_api_key=environ.get("DASHSCOPE_API_KEY", ""),
            dashscope_base_url=environ.get("DASHSCOPE_HTTP_BASE_URL", "").rstrip("/"),
            wechat_appid=environ.get("WECHAT_APPID", ""),
            wechat_secret=environ.get("WECHAT_SECRET", ""),
            wechat_web_appid=environ.get("WECHAT_WEB_APPID", ""),
            wechat_web_secret=environ.get("WECHAT_WEB_SECRET", ""),
            wechat_base_url=environ.get("WECHAT_BASE_URL", "").rstrip("/"),
            wechat_open_url=environ.get("WECHAT_OPEN_URL", "").rstrip("/"),
            wechat_login_page=environ.get("WECHAT_LOGIN_PAGE", ""),
            admin_username=environ.get("ADMIN_USERNAME") or "admin",
            admin_password=environ.get("ADMIN_PASSWORD") or "admin123",
            throttles=_throttles(environ),
            signup_credits=integer("SIGNUP_CREDITS", 1_000_000, 0, 10**12),
            lease_seconds=decimal("LEASE_SECONDS", 15, 1, 120),
            sweep_seconds=decimal("SWEEP_SECONDS", 60, 1, 3600),
        )


def hide_secrets() -> None:
    """Remove them from this process's environment, before it runs functions."""
    for name in SECRETS:
        os.environ.pop(name, None)


def _throttles(environ: Mapping[str, str]) -> str:
    text = environ.get("THROTTLES") or UNTHROTTLED
    limit = rf"({'|'.join(THROTTLES)})=[1-9]\d{{0,8}}/[1-9]\d{{0,5}}"
    if not re.fullmatch(rf"{limit}( {limit})*", text):
        raise SettingsError(f"THROTTLES={text} is not like redeem=20/3600 stream=300/60, of {', '.join(THROTTLES)}")
    return text


def _number(environ: Mapping[str, str], kind: Callable[[str], T], noun: str) -> Callable[[str, float, float, float], T]:
    def read(name: str, default: float, low: float, high: float) -> T:
        text = environ.get(name) or str(default)
        try:
            value = kind(text)
            in_range = low <= value <= high  # type: ignore[operator]
        except (ValueError, OverflowError):
            in_range = False
        if not in_range or not math.isfinite(float(text)):
            raise SettingsError(f"{name}={text} is not {noun} from {low:g} to {high:g}")
        return value

    return read
