"""The steps of the Dockerfile and the first commands of the containers, without containers.

Takes minutes and a package registry, so its name keeps it out of the suite:
``python -m pytest tests/docker/image_steps.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from composition import ROOT, commands, dockerfile, services
from test_compose import options, unknown

from demo.postgres import Postgres


@pytest.fixture(scope="module")
def version() -> str:
    return next(rest for instruction, rest in dockerfile() if instruction == "ARG").split("=")[1]


@pytest.fixture(scope="module")
def image(version: str) -> Iterator[Path]:
    """A folder that stands for the root of the image, with its Airflow and that one's providers."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        _run([sys.executable, "-m", "venv", root / "python"])
        official = f"apache-airflow[celery,redis,postgres]=={version}"
        # The image comes with a Celery that its provider goes with; 3.26.0 does not with 5.7.
        _run([root / "python/bin/pip", "install", "--quiet", official, "celery<5.7"])
        yield root


@pytest.fixture(scope="module")
def before(image: Path) -> list[str]:
    """What the official image has installed, by versions."""
    return _installed(image)


@pytest.fixture(scope="module")
def built(image: Path, version: str, before: list[str]) -> Path:
    """The image after all steps of the Dockerfile."""
    assert before
    for instruction, rest in dockerfile():
        words = [word for word in rest.split() if not word.startswith("--")]
        if instruction == "COPY":
            _copy(words[:-1], _inside(image, words[-1]))
        elif instruction == "RUN":
            step = re.sub(r"--mount=\S+", "", rest)
            _run(["sh", "-c", _inside(image, step)], image, AIRFLOW_VERSION=version)
    return image


def test_the_steps_add_packages_and_change_none(built: Path, before: list[str]) -> None:
    after = _installed(built)
    added = {line.partition("==")[0] for line in set(after) - set(before)}

    assert set(before) <= set(after)
    assert "datalogic-py" in added
    assert any(name.startswith("airflow-claim-dispatch") for name in added)


def test_airflow_lists_the_provider(built: Path) -> None:
    listed = _run(["airflow", "providers", "list", "--output", "plain"], built)
    assert re.search(r"(?m)^airflow-claim-dispatch ", listed)


def test_the_commands_are_there(built: Path) -> None:
    assert "publish" in _run(["claim-dispatch", "--help"], built)


def test_airflow_knows_every_command_and_option_those_of_celery_too(built: Path) -> None:
    asked = {"commands": [c[1:] for c in commands() if c[0] == "airflow"], "options": options()}

    assert ["celery", "worker"] in asked["commands"]
    assert unknown(asked, str(built / "python/bin/python"), built) == []


def test_the_healthcheck_of_the_worker_names_an_application_of_celery(built: Path) -> None:
    (check,) = (command for command in commands() if command[0] == "celery")
    assert _run([*check[:3], "report"], built).count("transport:redis") == 1


def test_the_sample_dags_are_in_the_image_and_can_be_imported(built: Path) -> None:
    folder = built / "opt/airflow/dags"
    copied = {file.name for file in folder.glob("*.py")}

    assert copied == {file.name for file in (ROOT / "dags").glob("*.py")}
    for name in copied:
        _run(["python", folder / name], built)


def test_init_creates_the_tables_of_both_databases(built: Path) -> None:
    with TemporaryDirectory() as folder, Postgres(Path(folder)) as server:
        here = server.url("airflow").rpartition("/")[0].partition("://")[2]
        for database in ("airflow", "application"):
            server.create(database)
        environment = {
            name: re.sub(r"(?<=://)\w+:\w+@postgres:5432", here, value)
            for name, value in services()["init"]["environment"].items()
        }

        answer = _run(services()["init"]["command"], built, **environment)
        _run(["airflow", "db", "check-migrations"], built, **environment)
        _run(["claim-dispatch", "db", "check"], built, **environment)

    assert re.search(r"action_logs: version \w+", answer)


def _copy(sources: Sequence[str], target: str) -> None:
    for source in sources:
        path, into = ROOT / source, Path(target)
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, into, ignore=ignored, dirs_exist_ok=True)
        else:
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, into)


def _inside(root: Path, text: str) -> str:
    return re.sub(r"(?<![\w.])/(tmp|opt)/", rf"{root}/\1/", text)


def _installed(image: Path) -> list[str]:
    return _run(["pip", "list", "--format", "freeze"], image).splitlines()


def _run(command: Sequence[str | Path], image: Path | None = None, **variables: str) -> str:
    """Run ``command`` in the image, or here; return what it prints. Fails with all of it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "PYTHON"))}
    if image is not None:
        environment["PATH"] = f"{image / 'python/bin'}:{os.environ['PATH']}"
        environment["AIRFLOW_HOME"] = str(image / "home")
        environment |= {"AIRFLOW__CELERY__BROKER_URL": "redis://redis:6379/0", **variables}
    done = subprocess.run(
        command,
        env=environment,
        cwd=image,
        capture_output=True,
        check=False,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
