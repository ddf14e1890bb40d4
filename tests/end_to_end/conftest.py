"""One real Airflow for all tests of this folder, with the sample DAGs and DAGs of our own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from demo.airflow import DAGS
from demo.signups import sign_ups
from demo.stack import running
from demo.story import mail_server

OURS = Path(__file__).with_name("dags")
HERE = str(Path(__file__).parent)
#: Airflow makes up their passwords, and writes them beside the administrator's.
PEOPLE = {
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,rob:user,vera:viewer",
    "AIRFLOW__CORE__AUTH_MANAGER": "readers.ReadersToo",
    "PYTHONPATH": os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")])),
}


@pytest.fixture(scope="session")
def users():
    return sign_ups(count=100, seed=7)


@pytest.fixture(scope="session")
def stack(users, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dags")
    for file in [*DAGS.glob("*.py"), *OURS.glob("*.py")]:
        shutil.copy(file, folder)
    with running(mail_server(users), print, folder, PEOPLE) as stack:
        with stack.engine.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TABLE effects (action_id bigint, pid int, at timestamptz DEFAULT now())"
            )
        yield stack
