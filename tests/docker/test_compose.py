"""The compose file means what Compose, Airflow and this provider take it to mean."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from composition import (
    FOLDER,
    README,
    ROOT,
    airflow_services,
    commands,
    compose,
    readme_commands,
    services,
    variables,
)

from airflow_claim_dispatch import cli, settings

#: The Celery provider, which only the image has, brings these; see image_steps.py.
CELERY = "celery"

SECRETS = {
    "POSTGRES_PASSWORD", "APPLICATION_PASSWORD", "AIRFLOW_PASSWORD", "FERNET_KEY",
    "API_SECRET_KEY", "JWT_SECRET",
}  # fmt: skip


def test_it_follows_the_compose_specification() -> None:
    # The specification's own schema, unchanged; its licence is beside it.
    schema = json.loads(Path(__file__).with_name("compose-spec.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(compose())


def test_it_has_every_part_of_airflow_and_what_they_need() -> None:
    parts = {"init", "api-server", "scheduler", "dag-processor", "triggerer", "worker"}

    assert set(airflow_services()) == parts
    assert set(services()) == parts | {"postgres", "redis", "mail"}
    assert int(services()["worker"]["deploy"]["replicas"]) == 2


def test_every_variable_has_a_default_and_is_explained_in_the_readme() -> None:
    assert [name for name, default in variables().items() if default is None] == []
    assert [name for name in variables() if f"`{name}`" not in README] == []


def test_the_comment_and_the_readme_name_all_secrets() -> None:
    head = (FOLDER / "compose.yaml").read_text().split("name:")[0]

    assert set(variables()) >= SECRETS
    assert [secret for secret in SECRETS if secret not in head or f"`{secret}`" not in README] == []


def test_the_environment_replaces_the_defaults() -> None:
    replaced = compose({"APPLICATION_PASSWORD": "other", "WORKERS": "5"})["services"]

    connection = replaced["worker"]["environment"]["AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT"]
    assert urlsplit(connection).password == "other"  # noqa: S105
    assert replaced["postgres"]["environment"]["APPLICATION_PASSWORD"] == "other"  # noqa: S105
    assert replaced["worker"]["deploy"]["replicas"] == "5"


def test_all_parts_of_airflow_share_image_settings_and_logs() -> None:
    first, *others = airflow_services().values()
    shared = first["environment"].items()

    for other in others:
        assert other["image"] == first["image"]
        assert other["volumes"] == first["volumes"]
        assert shared <= other["environment"].items()


@pytest.mark.parametrize("name", services())
def test_what_a_service_waits_for_can_come_true(name: str) -> None:
    for other, waited in services()[name].get("depends_on", {}).items():
        awaited = services()[other]
        if waited["condition"] == "service_healthy":
            assert "healthcheck" in awaited
        else:
            assert waited["condition"] == "service_completed_successfully"
            assert awaited["restart"] == "no"


def test_every_service_that_stays_up_says_how_it_is_and_is_restarted() -> None:
    for name, service in services().items():
        assert ("healthcheck" in service) == (name != "init")
        assert service["restart"] == ("no" if name == "init" else "unless-stopped")


def test_nothing_is_published_beyond_the_loopback_interface() -> None:
    published = chain.from_iterable(service.get("ports", []) for service in services().values())
    assert sorted(published) == ["127.0.0.1:8025:8025", "127.0.0.1:8080:8080"]


def test_what_is_mounted_exists() -> None:
    for service in services().values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            found = (FOLDER / source).exists() if source.startswith(".") else None
            assert found or source in compose()["volumes"]


def test_every_address_in_the_environment_leads_to_a_service() -> None:
    environment = _environment("worker")
    addresses = {
        name: (url.hostname, url.port)
        for name, value in environment.items()
        if (url := urlsplit(value)).hostname
    }
    mail = environment["SMTP_HOST"], int(environment["SMTP_PORT"])

    assert addresses == {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": ("api-server", 8080),
        "AIRFLOW__API__BASE_URL": ("localhost", 8080),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": ("postgres", 5432),
        "AIRFLOW__CELERY__BROKER_URL": ("redis", 6379),
        "AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT": ("postgres", 5432),
    }
    assert mail == ("mail", 1025)


def test_the_connection_is_the_one_that_this_provider_looks_for() -> None:
    conn_id, _ = settings.OPTIONS["conn_id"]
    assert f"AIRFLOW_CONN_{conn_id.upper()}" in _environment("worker")


def test_the_sample_dags_find_the_variables_that_they_read() -> None:
    sources = [file.read_text() for file in (ROOT / "dags").glob("*.py")]
    read = set(re.findall(r"environ\[\"(\w+)\"\]", "\n".join(sources)))

    assert read == {"SMTP_HOST", "SMTP_PORT"}
    assert read <= _environment("worker").keys()


def test_no_variable_is_set_in_vain() -> None:
    known = {"SMTP_HOST", "SMTP_PORT", "AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT"}
    own = {"api-server": {"AIRFLOW_PASSWORD"}, "worker": {"DUMB_INIT_SETSID"}}
    for name in airflow_services():
        others = {one for one in _environment(name) if not one.startswith("AIRFLOW__")}
        assert others == known | own.get(name, set())


def test_airflow_knows_the_commands_and_the_options(tmp_path: Path) -> None:
    asked = {
        "commands": [c[1:] for c in commands() if c[0] == "airflow" and c[1] != CELERY],
        "options": [option for option in options() if option[0] != CELERY],
    }
    assert len(asked["commands"]) == 7
    assert unknown(asked, sys.executable, tmp_path) == []


def test_airflow_misses_what_does_not_exist(tmp_path: Path) -> None:
    nonsense = [["scheduler", "--sideways"], ["core", "colour"], ["sky", "colour"]]
    asked = {"commands": nonsense[:1], "options": nonsense[1:]}
    assert unknown(asked, sys.executable, tmp_path) == nonsense


def test_the_secrets_by_default_are_as_long_as_their_algorithms_want() -> None:
    environment = _environment("api-server")

    assert len(environment["AIRFLOW__API__SECRET_KEY"]) >= 64
    assert len(environment["AIRFLOW__API_AUTH__JWT_SECRET"]) >= 64


def test_the_api_server_starts_with_the_password_of_the_environment(tmp_path: Path) -> None:
    passwords, started = tmp_path / "passwords.json", tmp_path / "started"
    airflow = tmp_path / "airflow"
    airflow.write_text(f'#!/bin/sh\necho "$@" > {started}\n')
    airflow.chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AIRFLOW_PASSWORD": 'it\'s "mine"',
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }

    subprocess.run(services()["api-server"]["command"], env=variables, check=True, timeout=30)

    assert json.loads(passwords.read_text()) == {"admin": 'it\'s "mine"'}
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert started.read_text() == "api-server\n"
    user, role = _environment("api-server")["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(":")
    assert (user, role) == ("admin", "admin")


def test_the_readme_names_services_that_exist() -> None:
    executed = [command for command in readme_commands() if command[2] in ("exec", "kill", "logs")]
    named = {next(word for word in command[3:] if word[0] != "-") for command in executed}

    assert named == {"scheduler", "worker", "postgres"}
    assert named <= services().keys()


def test_the_commands_for_the_action_log_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    carried_out: list[str] = []
    monkeypatch.setattr(cli, "_carry_out", lambda *call: carried_out.append(call[1]) or 0)

    ours = [words[words.index("claim-dispatch") + 1 :] for words in _our_commands()]

    assert [cli.main(arguments) for arguments in ours] == [0, 0, 0]
    assert carried_out == ["db_migrate", "publish", "stats"]


def options() -> list[list[str]]:
    """Return the sections and names of the options that the environment sets."""
    names = {name for one in airflow_services() for name in _environment(one)}
    return [name.lower().split("__")[1:] for name in sorted(names) if name.startswith("AIRFLOW__")]


def unknown(asked: dict[str, Any], python: str, home: Path) -> list[list[str]]:
    """Return what the Airflow of ``python`` does not know of ``asked``."""
    answer = subprocess.run(
        [python, Path(__file__).with_name("unknown_to_airflow.py")],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(home)},
        input=json.dumps(asked),
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def _environment(service: str) -> dict[str, str]:
    return services()[service]["environment"]


def _our_commands() -> list[list[str]]:
    return [words for words in (*commands(), *readme_commands()) if "claim-dispatch" in words]
