"""`make screenshots`: the pictures of the web client in docs/screenshots, and its recording, from a stack of their own.

A picture shows a conversation that the simulated model repeats word for word, so each run shows the same. Colors are reduced to a
palette, which makes a file a quarter as large. The recording is a real answer, at the pace at which it came.
"""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.web.browser import DESKTOP, PHONE, Watch, launched, open_context
from tests.web.chat_page import COMPOSER
from tests.web.stack import PYTHON, ROOT, Person, Stack, running

FOLDER = ROOT / "docs" / "screenshots"
COLORS = 128
FILM = {"width": 960, "height": 600}
FRAME_MS, STILL_MS = 60, 4000
"""The pause after each frame of the recording, and how long the last one stands."""
FILMED_QUESTION = "Why do deer shed their antlers every year?"
QUESTION = "How do I merge overlapping intervals? Please with an example."
ANSWER = """Sort the intervals by their start. Then go through them once, and let the last one grow while the next one overlaps.

```python
def merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
```

| input | result |
| --- | --- |
| `[(1, 4), (3, 6)]` | `[(1, 6)]` |
| `[(1, 2), (5, 8)]` | `[(1, 2), (5, 8)]` |

Sorting takes $O(n \\log n)$, and the loop takes $O(n)$.
"""
CHINESE_QUESTION = "鹿为什么每年都会脱角？"
CHINESE_ANSWER = """鹿角是**骨质**的，每年由激素控制脱落和再生：

1. 冬末，睾酮下降，角根处的骨质被吸收，鹿角脱落。
2. 春天，新角在带绒毛的皮肤下快速生长，每天最多约 2 厘米。
3. 夏末，绒毛干燥脱落，露出坚硬的新角。

> 驯鹿是例外：雌鹿也长角，并且到春天才脱落。
"""
TITLES = (
    "A weekend in Hangzhou",
    "Names for a tea shop",
    "Reply to Mr. Lin",
    "Why leaves turn red",
    "Regex for dates",
    "Bedtime story: the deer",
)


def write(name: str, page: Page) -> None:
    """Write what the page shows."""
    page.wait_for_load_state("networkidle")
    image = Image.open(io.BytesIO(page.screenshot(animations="disabled", caret="hide"))).convert("RGB")
    path = FOLDER / f"{name}.png"
    image.quantize(COLORS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def make_chats(person: Person) -> dict[str, str]:
    """Make the chats that the pictures show, and return their ids by language."""
    [preset] = [one["id"] for one in person.get("/presets") if one["title"] == "AIDeer"] or [person.preset("AIDeer")]
    for title in TITLES:
        person.chat(title, [{"role": "user", "content": title}], preset)
    made = {}
    for language, title, question, answer in (
        ("zh", "鹿角的秘密", CHINESE_QUESTION, CHINESE_ANSWER),
        ("en", "Overlapping intervals", QUESTION, ANSWER),
    ):
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        made[language] = person.chat(title, messages, preset)
    person.checked(person.http.put(f"/chats/{made['en']}", json={"pinned": True}))
    return made


def film(page: Page) -> None:
    """Write the recording: a question, and its answer as it comes."""
    frames: list[Image.Image] = []
    seconds: list[float] = []

    def shoot_for(least: float, is_over: Callable[[], bool] = lambda: True) -> None:
        end = time.monotonic() + least
        while time.monotonic() < end or not is_over():
            began = time.monotonic()
            frames.append(Image.open(io.BytesIO(page.screenshot(caret="hide"))).convert("RGB"))
            page.wait_for_timeout(FRAME_MS)
            seconds.append(time.monotonic() - began)

    page.goto("/")
    composer = page.get_by_label(COMPOSER)
    expect(composer).to_be_visible()
    shoot_for(0.5)
    for word in FILMED_QUESTION.split(" "):
        composer.press_sequentially(f"{word} ")
        shoot_for(0.1)
    composer.press("Enter")
    stop = page.get_by_role("button", name="Stop")
    expect(stop).to_be_visible()
    shoot_for(1, lambda: stop.count() == 0)
    shoot_for(0.3)
    path = FOLDER / "page.webp"
    milliseconds = [round(each * 1000) for each in seconds[:-1]] + [STILL_MS]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, quality=50, method=4)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB, {sum(milliseconds) / 1000:.0f} s")


def show_chat(page: Page, chat_id: str) -> None:
    """Open a chat, and wait until its answer is drawn."""
    page.goto(f"/#/chat/{chat_id}")
    expect(page.locator("article.answer").last).to_be_visible()
    page.wait_for_timeout(500)  # the highlighting and the formulas


def show_keys(page: Page, person: Person) -> None:
    """Open Connect, with the address of a deployment, and make a key."""
    config = {**person.get("/config"), "v1_base": "https://chat.example.com/v1"}
    page.route("**/api/v1/config", lambda route: route.fulfill(json=config))
    page.goto("/#/connect")
    page.get_by_role("button", name="New API key").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Notebook")
    page.get_by_role("button", name="Make the key").click()
    page.locator(".snippet .hljs-keyword").first.wait_for()
    page.locator("h1").evaluate("(heading) => heading.closest('.connect').scrollTo(0, 0)")
    page.mouse.move(0, 0)


def fill_statistics(stack: Stack) -> None:
    """Give the console thirty days to show."""
    subprocess.run([str(PYTHON), "-m", "tests.web.past_days", str(stack.state_dir)], cwd=ROOT, check=True)


def shoot(browser: Browser, stack: Stack) -> None:
    """Make all pictures."""
    ada = stack.person(nickname="Ada")
    chats = make_chats(ada)
    fill_statistics(stack)
    watch = Watch(stack.url)

    def picture(name: str, person: Person | None, show: Callable[[Page], Any], **options: Any) -> None:
        context = open_context(browser, stack, watch, person, device_scale_factor=1, **options)
        page = context.new_page()
        show(page)
        write(name, page)
        context.close()

    picture("light", ada, lambda page: show_chat(page, chats["en"]), viewport=DESKTOP, color_scheme="light")
    picture("dark", ada, lambda page: show_chat(page, chats["en"]), viewport=DESKTOP, color_scheme="dark")
    kim = stack.person(nickname="Kim")
    kim.post("/users/me/keys", {"name": "Cherry Studio", "credit_limit": 10_000})
    tall = {"width": 1440, "height": 1180}
    picture("connect", kim, lambda page: show_keys(page, kim), viewport=tall, color_scheme="light")
    picture("phone", ada, lambda page: show_chat(page, chats["zh"]), viewport=PHONE, locale="zh-CN", has_touch=True)
    context = open_context(browser, stack, watch, ada, device_scale_factor=1, viewport=FILM, color_scheme="light")
    film(context.new_page())
    context.close()
    picture("admin", stack.admin(), lambda page: page.goto("/admin"), viewport=DESKTOP)
    watch.check()


def main() -> int:
    """Make the pictures."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder)) as stack,
        sync_playwright() as playwright,
        launched(playwright) as browser,
    ):
        shoot(browser, stack)
    return 0


if __name__ == "__main__":
    sys.exit(main())
