"""The files of ``docker/``, read the way Compose and Docker read them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker"
README = (FOLDER / "README.md").read_text()

_VARIABLE = re.compile(r"\$(?:\$|\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}|(?P<other>.?))")


def compose(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the compose file with its variables replaced."""

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return (environment or {}).get(found["name"]) or found["default"]

    return _replaced(_written(), lambda text: _VARIABLE.sub(value, text))


def variables() -> dict[str, str | None]:
    """Return the variables of the compose file and their defaults; ``$`` alone has none."""
    found: dict[str, str | None] = {}

    def note(text: str) -> str:
        for one in _VARIABLE.finditer(text):
            if one[0] != "$$":
                found[one["name"] or one[0]] = one["default"]
        return text

    _replaced(_written(), note)
    return found


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def airflow_services() -> dict[str, dict[str, Any]]:
    """Return the services that run our image."""
    return {name: service for name, service in services().items() if "build" in service}


def commands() -> Iterator[list[str]]:
    """Yield the commands of all services and healthchecks, those in shell scripts one by one."""
    for service in services().values():
        yield from _commands(service.get("command", []))
        kind, *words = service["healthcheck"]["test"] if "healthcheck" in service else ["CMD"]
        yield from _commands(["sh", "-c", *words] if kind == "CMD-SHELL" else words)


def _commands(words: list[str]) -> Iterator[list[str]]:
    if words[:1] not in (["bash"], ["sh"]):
        if words:
            yield words
        return
    for line in re.split(r"&&|\n", words[-1].replace("\\\n", " ")):
        if command := shlex.split(line.strip().removeprefix("exec ")):
            yield command


def dockerfile() -> Iterator[tuple[str, str]]:
    """Yield the instructions of the Dockerfile and their arguments."""
    text = re.sub(r"(?m)^#.*\n", "", (FOLDER / "Dockerfile").read_text())
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if line.strip():
            instruction, _, arguments = line.partition(" ")
            yield instruction, arguments


def is_sent_to_docker(path: str) -> bool:
    """Tell whether .dockerignore leaves ``path`` in the build context; the last match decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        parts = Path(path).parts
        above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        if pattern and not line.startswith("#") and any(_matches(one, pattern) for one in above):
            sent = line.startswith("!")
    return sent


def _matches(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(Path(path).name, pattern[3:])
    return fnmatch(path, pattern)


def readme_commands() -> list[list[str]]:
    """Return the commands of the README, comments left out."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = re.findall(
        r"(?s)docker compose .*?(?=\ndocker|\Z)", "\n".join(block.strip() for block in blocks)
    )
    return [shlex.split(line.replace("\\\n", " "), comments=True) for line in lines]


def _written() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def _replaced(value: Any, replace: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return replace(value)
    if isinstance(value, dict):
        return {name: _replaced(one, replace) for name, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, replace) for one in value]
    return value
