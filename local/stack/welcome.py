"""The message after the stack's start: on the console, and on the page at `/`.

The page is self-contained: it fetches no resources and has no script.
"""

import html
from collections.abc import Awaitable, Callable
from typing import Any

from local.stack.settings import DEFAULT_ADMIN, DEFAULT_PORT, Settings, command

App = Callable[[Any, Any, Any], Awaitable[None]]
STYLE = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:44em;margin:3em auto;padding:0 1em;color:#222;background:#fff}"
    "code{background:#f2f2f2;padding:.1em .3em;border-radius:4px}th{text-align:left;vertical-align:top;padding-right:1.5em;"
    "font-weight:600;white-space:nowrap}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}code{background:#333}a{color:#8ab4f8}}"
)
HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    ),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


def sign_in_data(settings: Settings) -> str:
    """Return the administrator's name and password. For a password that is not the default, return only its variable's name."""
    password = settings.admin_password
    return f"{settings.admin_username} / {password if password == DEFAULT_ADMIN[1] else '(ADMIN_PASSWORD)'}"


def make(target: str, settings: Settings) -> str:
    """Return the command that runs a make target against this stack."""
    port = f"PORT={settings.port} " if settings.port != DEFAULT_PORT else ""
    return port + command(target, settings.state_dir)


def parts(settings: Settings, wechat_url: str) -> tuple[list[str], list[str]]:
    """Return the simulated services and the real ones."""
    simulated, real = ["AWS (ministack)"], []
    if settings.simulates_dashscope:
        simulated.append("DashScope: set DASHSCOPE_API_KEY for the real one")
    else:
        real.append(f"DashScope at {settings.dashscope_base_url or 'its own address'}")
    if settings.simulates_wechat:
        simulated.append(f"WeChat at {wechat_url}: set WECHAT_APPID for the real one")
    else:
        real.append(f"WeChat at {settings.wechat_base_url or 'its own address'}")
    return simulated, real


def text(settings: Settings, wechat_url: str) -> str:
    """Return the console's message when the stack is ready."""
    simulated, real = parts(settings, wechat_url)
    lines = [
        f"AIDeer is ready: {settings.url}",
        f"  documentation  {settings.url}/docs",
        f"  admin          {sign_in_data(settings)}",
        f"  talk to it     {make('chat', settings)}",
        f"  simulated      {', '.join(simulated)}",
        *([f"  real           {', '.join(real)}"] if real else []),
        f"  data and logs  {settings.state_dir}",
        "  stop           Ctrl-C",
    ]
    return "\n".join(lines)


def page(settings: Settings, wechat_url: str) -> str:
    """Return the page at `/`."""
    simulated, real = parts(settings, wechat_url)
    rows = {
        "Admin": f"<code>{html.escape(sign_in_data(settings))}</code>",
        "Talk to it": f"<code>{html.escape(make('chat', settings))}</code> in another terminal",
        "See it all": f"<code>{html.escape(make('demo', settings))}</code> makes the whole journey, call by call",
        "Simulated": "<br>".join(html.escape(part) for part in simulated),
        "Real": "<br>".join(html.escape(part) for part in real),
        "Data and logs": f"<code>{html.escape(str(settings.state_dir))}</code>",
        "Stop": f"Ctrl-C, or <code>{html.escape(command('stop', settings.state_dir))}</code>",
    }
    table = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items() if value)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>AIDeer</title><link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>AIDeer is running</h1>'
        "<p>This is the backend of an AI chat product, on your machine. To use it from a program or a browser:</p><ul>"
        '<li><a href="/docs">The API\'s documentation</a>: sign in there with the data below, and try every call</li>'
        '<li><a href="/openapi.json">The OpenAPI document</a>, to generate a client</li>'
        '<li><a href="/api/v1/prices">The models and their prices</a></li>'
        "<li>A web page of another origin reads the answers only if <code>ALLOWED_ORIGINS</code> lists it</li>"
        f"</ul><table>{table}</table><p>README.md shows the first six calls with curl.</p></body></html>\n"
    )


def at_root(app: App, content: str) -> App:
    """Return the app with this page at `/`, a path that the API does not use."""
    body = content.encode()
    headers = [*HEADERS, (b"content-length", str(len(body)).encode())]

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] not in ("GET", "HEAD"):
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return serve
