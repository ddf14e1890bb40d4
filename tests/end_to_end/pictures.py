"""Takes the pictures of the page that the documentation shows: ``make screenshots``."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import PAGE, browsing
from scene import Scene

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

IMAGES = Path(__file__).parents[2] / "docs" / "images"
THEMES = ("light", "dark")
#: Name: where it is on the page, and how high it is.
PICTURES = {
    "overview": ("", 660),
    "actions": ("?view=actions&states=dead&states=retrying", 620),
    "action": ("?action={dead}", 760),
}


def take(browser, dead: int) -> None:
    """Take every picture in both themes."""
    IMAGES.mkdir(exist_ok=True)
    page = browser.page()
    for theme in THEMES:
        page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        for name, (search, height) in PICTURES.items():
            page.set_viewport_size({"width": 1280, "height": height})
            page.goto(page.url.partition("/plugin")[0] + PAGE + search.format(dead=dead))
            playwright.expect(page.get_by_role("navigation", name="Views")).to_be_visible()
            page.wait_for_load_state("networkidle")
            page.screenshot(path=IMAGES / f"{name}-{theme}.png")
    page.close()


def test_take_pictures(stack, tmp_path):
    scene = Scene(stack.engine)
    scene.play()
    dead = scene.log.desk.list(scene.dead).items[0].id
    with browsing(stack.airflow, tmp_path) as browser:
        take(browser, dead)
