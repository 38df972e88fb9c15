"""The message on the console after the stack's start."""

from local.stack.settings import DEFAULT_ADMIN, DEFAULT_PORT, Settings, command


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
        f"Open {settings.url}",
        f"  console        {settings.url}/admin",
        f"  documentation  {settings.url}/docs",
        f"  admin          {sign_in_data(settings)}",
        f"  talk to it     {make('chat', settings)}",
        f"  simulated      {', '.join(simulated)}",
        *([f"  real           {', '.join(real)}"] if real else []),
        f"  data and logs  {settings.state_dir}",
        "  stop           Ctrl-C",
    ]
    return "\n".join(lines)
