"""README's picture of the page: ``python tests/picture.py docs/page.png``.

It shows the demo's own data, as ``holdfast serve`` would, in whatever Chromium is installed.
"""

import os
import sys
import tempfile
from pathlib import Path

from chromium import browser
from doors import served

from holdfast import Holdfast, Settings
from holdfast.server import demo_data

PROMPT = "Which dessert wine should I open for our guests on Friday?"
SIZE = {"width": 1140, "height": 900}


def draw(path: Path, folder: Path) -> None:
    with Holdfast.open(settings=Settings.load(folder / "data")) as holdfast:
        for said in demo_data.STATEMENTS:
            how = {"kind": said.kind, "strength": said.strength, "scope": said.scope}
            holdfast.add(demo_data.SUBJECT, said.text, split=False, **how)
        with served(holdfast) as server, browser() as chromium:
            page = chromium.new_page(base_url=server.url, viewport=SIZE)
            page.goto(f"/try/{demo_data.SUBJECT}")
            page.fill("#key", server.key)
            page.keyboard.press("Enter")
            page.fill("#prompt", PROMPT)
            page.wait_for_selector(".candidates")
            page.wait_for_selector("#found:not(.htmx-request)")
            page.screenshot(path=path, animations="disabled", caret="hide")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        os.environ["XDG_CONFIG_HOME"] = f"{made}/config"
        draw(Path(sys.argv[1]), Path(made))
