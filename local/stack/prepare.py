"""The two steps that prepare the data resources for a start. Each runs in its own process, because its imports need much memory.

`resources` runs before ministack serves. It brings ministack's state in line with template.yaml. `connect` runs when ministack
serves. It writes the providers' keys into their secrets, and the data that the other processes need into the state directory.
"""

import contextlib
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from local.stack import prices, uploads_door
from local.stack.processes import ROOT, Processes, Sockets
from local.stack.settings import DEFAULT_ADMIN, SIMULATED_WECHAT, Settings
from local.stack.state import Stack
from local.stack.template import Template

Resources = dict[str, dict[str, str]]
RECORD = "resources.json"
"""A file in ministack's state directory: the part of the template that its resources were made from, and the resources."""


def make_resources(template: Template, state_dir: Path) -> Resources:
    """Bring the resources in ministack's state directory in line with the template, if needed, and return them.

    The work happens in a copy, which replaces the directory at the end. So an interruption changes no data.
    """
    before = state_dir.with_name(f"{state_dir.name}.before")
    if before.exists() and not state_dir.exists():
        before.rename(state_dir)
    data = template.data()
    with contextlib.suppress(FileNotFoundError):
        made_from, made = _read_record(state_dir)
        if made_from == data:
            return made
    from local.stack import resources

    state_dir.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{state_dir.name}.", dir=state_dir.parent))
    try:
        shutil.copytree(state_dir, work, dirs_exist_ok=True)
        with resources.run_ministack(work, "migrate") as endpoint:
            made = resources.create(template, endpoint)
        (work / RECORD).write_text(json.dumps({"template": data, "resources": made}))
        shutil.rmtree(before, ignore_errors=True)
        state_dir.rename(before)
        work.rename(state_dir)
    except resources.MigrationError as error:
        sys.exit(f"ERROR {error}")
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
    return made


def _read_record(state_dir: Path) -> tuple[dict[str, Any], Resources]:
    record = json.loads((state_dir / RECORD).read_text())
    return record["template"], record["resources"]


def connect(template: Template, settings: Settings, sockets: Sockets) -> None:
    """Give the functions the addresses of all services, and the providers' keys."""
    from local.stack import resources

    _, found = _read_record(Processes(settings.state_dir).data_dir)
    overrides = {
        "SIGNUP_CREDITS": str(settings.signup_credits),
        "UNCOVERED_CREDITS": str(settings.uncovered_credits),
        "OPEN_TASKS": str(settings.open_tasks),
        "THROTTLES": settings.throttles,
        "MOST_CHATS": str(settings.most_chats),
        "LEASE_SECONDS": f"{settings.lease_seconds:g}",
        "STREAM_BASE_URL": settings.url,
        "PUBLIC_BASE_URL": settings.url,
        "V1_BASE_URL": settings.url,
        "UPLOADS_ORIGIN": f"{settings.url}{uploads_door.PREFIX}",
        "METRICS_NAMESPACE": "",
        "PROVIDER_REGION": settings.provider_region,
    }
    if settings.simulates_dashscope:
        overrides["DASHSCOPE_HTTP_BASE_URL"] = f"http://127.0.0.1:{sockets.dashscope_port}/api/v1"
    elif settings.dashscope_base_url:
        overrides["DASHSCOPE_HTTP_BASE_URL"] = settings.dashscope_base_url
    else:
        overrides["DASHSCOPE_HTTP_BASE_URL"] = prices.base_url(settings.provider_region)
    overrides["WECHAT_CALLBACK_URL"] = f"{settings.url}/api/v1/session/wechat/callback"
    overrides["WECHAT_LOGIN_PAGE"] = settings.wechat_login_page
    wechat = {
        "wechat_appid": settings.wechat_appid,
        "wechat_secret": settings.wechat_secret,
        "wechat_web_appid": settings.wechat_web_appid,
        "wechat_web_secret": settings.wechat_web_secret,
    }
    if settings.simulates_wechat:
        address = f"http://127.0.0.1:{sockets.wechat_port}"
        overrides |= {"WECHAT_BASE_URL": address, "WECHAT_OPEN_URL": address}
        wechat = SIMULATED_WECHAT
    if settings.wechat_base_url:
        overrides["WECHAT_BASE_URL"] = settings.wechat_base_url
    if settings.wechat_open_url:
        overrides["WECHAT_OPEN_URL"] = settings.wechat_open_url
    stack = Stack(sockets.endpoint, resources.environment(template, sockets.endpoint, found, overrides), found)
    resources.write_providers(stack, {"dashscope_api_key": settings.dashscope_api_key or "sk-local", **wechat})
    stack.save(settings.state_dir)


def check_admin(settings: Settings) -> None:
    """End with a message if the API does not accept the administrator's name or password. The message contains neither value."""
    if (settings.admin_username, settings.admin_password) == DEFAULT_ADMIN:
        return  # skip the imports below
    sys.path.insert(0, str(ROOT / "functions"))
    from pydantic import ValidationError

    from aideer.schemas.users import NewAdmin

    try:
        NewAdmin(username=settings.admin_username, password=settings.admin_password)
    except ValidationError as error:
        wrong = [f"ADMIN_{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors()]
        sys.exit(f"ERROR {'; '.join(wrong)}")


def main() -> None:
    """Run the step that the first argument names."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the copy is deleted
    step, *arguments = sys.argv[1:]
    settings, template = Settings.read(), Template()
    if step == "resources":
        check_admin(settings)
        make_resources(template, Processes(settings.state_dir).data_dir)
    else:
        connect(template, settings, Sockets.parse(arguments))


if __name__ == "__main__":
    main()
