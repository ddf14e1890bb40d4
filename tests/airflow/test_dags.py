"""DAG files: they parse, and to the same DAG every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_claim_dispatch.assets import ActionsDue
from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.decorators import processor

DAGS = Path(__file__).parents[2] / "dags"


@processor("mail", "letter")
def send(action: Action) -> None:
    """Do nothing."""


@processor(*(f"{'long' * 25}.{number}" for number in range(50)))
def much(action: Action) -> None:
    """Serve many types."""


@processor("what?#", "a b")
def odd(action: Action) -> None:
    """Serve types that mean something in a URI."""


@processor("what?#2", "a b")
def odder(action: Action) -> None:
    """Serve almost the same."""


class Orders(Processor):
    prefix = "order."

    def supports(self, type: str) -> bool:
        return True


@pytest.fixture(scope="module")
def parsed(metadata_database) -> list[dict]:
    """What two processes make of dags/, side by side."""
    command = [sys.executable, Path(__file__).with_name("parse.py"), DAGS]
    environments = [os.environ | {"PYTHONHASHSEED": seed} for seed in ("1", "2")]
    parsers = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for environment in environments
    ]
    return [_stored(parser.communicate(timeout=90)[0]) for parser in parsers]


def _stored(output: str) -> dict:
    (line,) = [line for line in output.splitlines() if line.startswith("STORED ")]
    return json.loads(line.removeprefix("STORED "))


def test_the_sample_dags_have_no_import_errors(parsed):
    assert parsed[0]["errors"] == {}
    assert set(parsed[0]["dags"]) == {file.stem for file in DAGS.glob("*.py")}


def test_two_processes_store_the_same_dags(parsed):
    assert parsed[0]["dags"] == parsed[1]["dags"]
    assert " object at 0x" not in json.dumps(parsed[0])


def test_an_asset_is_named_by_connection_table_and_sorted_types():
    asset = ActionsDue(send, Orders())
    assert asset.name == "actions due: claim_dispatch_default/action_logs/letter,mail,order.*"
    assert asset.uri == "claim-dispatch://claim_dispatch_default/action_logs/letter,mail,order.*"
    other = ActionsDue(send, claim_dispatch_conn_id="shop", table="sales.action_logs")
    assert other.uri == "claim-dispatch://shop/sales.action_logs/letter,mail"
    (watcher,) = other.watchers
    assert watcher.trigger.serialize()[1]["claim_dispatch_conn_id"] == "shop"


def test_assets_of_different_types_are_never_taken_for_each_other():
    assert ActionsDue(odd).uri != ActionsDue(odder).uri
    assert ActionsDue(odd).uri.endswith("/a%20b,what%3F%23")


def test_an_asset_of_many_types_has_a_name_that_airflow_stores():
    asset = ActionsDue(much)
    assert len(asset.uri) < 1500
    assert "50-types-" in asset.name
    assert asset.name == ActionsDue(much).name


def test_groups_in_one_dag_have_names_of_their_own():
    from airflow.sdk import dag

    from airflow_claim_dispatch.groups import dispatch

    @dag(schedule=None, catchup=False)
    def both() -> None:
        send(limit=5)
        odd(limit=5)
        dispatch(Orders())
        dispatch(much)

    assert set(both().task_group.get_child_by_label("send").children) == {"send.claim", "send.run"}
    assert len(both().task_ids) == 8


def test_what_the_group_does_not_know_goes_to_the_mapped_task():
    from airflow.sdk import dag

    @dag(schedule=None, catchup=False)
    def pooled() -> None:
        send(limit=5, pool="mails", fail_task_on="never")

    tasks = pooled().task_dict
    assert tasks["send.claim"].limit == 5
    assert tasks["send.claim"].pool == "default_pool"
    assert tasks["send.run"].partial_kwargs["pool"] == "mails"
    assert tasks["send.run"].partial_kwargs["retries"] == 0
