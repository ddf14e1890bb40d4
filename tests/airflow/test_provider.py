"""What Airflow learns about this provider, and what an import costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from pkgutil import resolve_name

import jsonschema
import pytest

import airflow_claim_dispatch
from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.errors import InvalidProcessor, InvalidSetting
from airflow_claim_dispatch.provider_info import get_provider_info

AIRFLOW = Path(sys.executable).with_name("airflow")


def test_the_provider_info_is_valid():
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_every_module_and_class_that_the_provider_info_names_exists():
    info = get_provider_info()
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                __import__(module)
    for notifier in info["notifications"]:
        assert resolve_name(notifier)
    for command in info["cli"]:
        assert resolve_name(command)()


def test_airflow_lists_the_provider(metadata_database):
    listed = subprocess.run(
        [AIRFLOW, "providers", "list", "-o", "json"],
        env=os.environ, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    start = listed.stdout.index("[{")
    names = {one["package_name"] for one in json.loads(listed.stdout[start:])}
    assert "airflow-claim-dispatch" in names


@pytest.mark.parametrize(
    "code", ["pass", "airflow_claim_dispatch.Action", "dir(airflow_claim_dispatch)"]
)
def test_importing_the_package_imports_neither_airflow_nor_sqlalchemy(code):
    script = (
        f"import sys, airflow_claim_dispatch; {code};"
        " print(sorted({'airflow', 'sqlalchemy', 'alembic', 'psycopg'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in airflow_claim_dispatch.__all__:
        assert getattr(airflow_claim_dispatch, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        airflow_claim_dispatch.nothing  # noqa: B018


def test_settings_come_from_airflows_configuration(monkeypatch):
    assert settings.get_int("lease") == 300
    monkeypatch.setenv("AIRFLOW__CLAIM_DISPATCH__LEASE", "60")
    assert settings.get_int("lease") == 60
    monkeypatch.setenv("AIRFLOW__CLAIM_DISPATCH__LEASE", "soon")
    with pytest.raises(InvalidSetting, match=r"\[claim_dispatch\] lease must be a positive whole"):
        settings.get_int("lease")


def test_the_default_retention_comes_through_airflows_configuration():
    assert settings.retention().period("any", "processed").seconds == 30 * 86_400
    assert settings.retention().period("any", "dead") is None
    assert settings.retention().as_dict()["decisions"] == "P1Y"


def test_processors_are_loaded_by_their_dotted_paths():
    with pytest.raises(InvalidProcessor, match=r"name them in \[claim_dispatch\] processors"):
        settings.load_processors()
    with pytest.raises(InvalidSetting, match=r"cannot import 'no\.such'"):
        settings.load_processors("no.such")
