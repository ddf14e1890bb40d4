"""``airflow claim-dispatch …``: the same commands beside Airflow, over its connections."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

AIRFLOW = Path(sys.executable).with_name("airflow")


@pytest.fixture
def airflow(metadata_database, tmp_path: Path):
    environment = os.environ | {
        "AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT": f"sqlite:///{tmp_path}/log.db"
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [AIRFLOW, "claim-dispatch", *arguments],
            env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    return run


def test_a_log_is_made_published_to_and_counted_over_an_airflow_connection(airflow):
    assert "action_logs: version 0001" in airflow("db", "migrate").stdout
    assert airflow("publish", "mail", "--key", "1").stdout.strip().endswith("published 1")
    assert "due" in airflow("list", "--type", "mail").stdout
    counted = airflow("stats", "--output", "json")
    assert '"type": "mail"' in counted.stdout
    assert counted.returncode == 0


def test_an_error_is_a_sentence_and_an_exit_code(airflow):
    failed = airflow("db", "check", "--conn-id", "nowhere")
    assert failed.returncode == 1
    assert "there is no connection 'nowhere'" in failed.stderr
    assert "Traceback" not in failed.stderr
