"""A headless Chromium, logged in to Airflow through its own form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PAGE = "/plugin/claim-dispatch"

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str:
    """Return where Chromium is; skip the test where it is not installed."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("Chromium is not installed")


class Browser:
    """Opens pages of one Airflow, each person in a profile of their own.

    :param airflow: a ``demo.airflow.Airflow``.
    """

    def __init__(self, airflow, folder) -> None:
        from playwright.sync_api import sync_playwright

        self._airflow, self._folder, self._program = airflow, folder, chromium()
        self._playwright = sync_playwright().start()
        self._people: dict[str, object] = {}

    def close(self) -> None:
        """Close all windows and end Chromium."""
        for person in self._people.values():
            person.close()
        self._playwright.stop()

    def person(self, name: str):
        """Return the browser of somebody who has logged in."""
        if name not in self._people:
            self._people[name] = self._logged_in(name)
        return self._people[name]

    def page(self, name: str = "admin", path: str = PAGE, **viewport: int):
        """Return a fresh page at ``path``; what goes wrong in it is kept in its ``trouble``."""
        page = self.person(name).new_page()
        page.trouble = []
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.set_default_timeout(30_000)
        if viewport:
            page.set_viewport_size({"width": 1280, "height": 860} | viewport)
        page.goto(self._airflow.address + path)
        return page

    def _logged_in(self, name: str):
        person = self._playwright.chromium.launch_persistent_context(
            self._folder / name, executable_path=self._program, headless=True, args=ARGUMENTS,
            viewport={"width": 1280, "height": 860}, timezone_id="UTC",
        )  # fmt: skip
        page = person.pages[0]
        page.goto(self._airflow.address)
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill(self._password(name))
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("Welcome").first.wait_for()
        return person

    def _password(self, name: str) -> str:
        return json.loads((self._airflow.home / "passwords.json").read_text())[name]


@contextmanager
def browsing(airflow, folder) -> Iterator[Browser]:
    """Give a browser for a while."""
    browser = Browser(airflow, folder)
    try:
        yield browser
    finally:
        browser.close()
