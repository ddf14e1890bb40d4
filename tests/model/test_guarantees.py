"""The page of guarantees names tests; they exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()


def test_every_test_that_is_named_exists():
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    files = (ROOT / "tests").rglob("test_*.py")
    there = {name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text())}
    assert len(named) > 20
    assert not named - there


def test_every_file_that_is_named_exists():
    for path in re.findall(r"`((?:tests|soak|docs)/[\w./]+)`", PAGE):
        assert (ROOT / path).exists(), path
