"""Metrics, as a StatsD server hears them."""

from __future__ import annotations

import asyncio
import inspect
import re
import socket
from collections import defaultdict
from datetime import timedelta

import pytest
from airflow.sdk import dag
from watches import watching

from airflow_claim_dispatch import metrics
from airflow_claim_dispatch.connections import open_log, using_log
from airflow_claim_dispatch.core.settlement import Reject, Skip, processed, released
from airflow_claim_dispatch.decorators import processor
from airflow_claim_dispatch.groups import dispatch
from airflow_claim_dispatch.hooks import using_hook
from airflow_claim_dispatch.metrics import MeasuredLog
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.storage import backlog as backlogs
from airflow_claim_dispatch.storage import claiming
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.triggers import ActionsDueTrigger

client = pytest.importorskip("statsd")

NOW = timedelta(0)

_LINE = re.compile(r"airflow\.claim_dispatch\.(?P<name>[^:]+):(?P<value>[^|]+)\|(?P<kind>\w+)")


class StatsD:
    """A server that listens on UDP."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0)
        self.clients: list = []
        self.port = self.socket.getsockname()[1]

    def noting(self, init):
        """Return what makes a client, and lets the test close it: Airflow never does."""

        def noted(made, *args, **kwargs):
            init(made, *args, **kwargs)
            self.clients.append(made)

        return noted

    def close(self) -> None:
        self.socket.close()
        for made in self.clients:
            made.close()

    def heard(self) -> dict[str, list[float]]:
        """Return what came since the last question about our names, by name."""
        values = defaultdict(list)
        while True:
            try:
                packet = self.socket.recv(65536).decode()
            except BlockingIOError:
                return dict(values)
            for line in packet.splitlines():
                if match := _LINE.fullmatch(line):
                    values[match["name"]].append(float(match["value"]))


@pytest.fixture
def statsd(monkeypatch):
    server = StatsD()
    monkeypatch.setattr(client.StatsClient, "__init__", server.noting(client.StatsClient.__init__))
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "True")
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_HOST", "127.0.0.1")
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_PORT", str(server.port))
    initialize()
    yield server
    monkeypatch.undo()
    initialize()
    server.close()


def initialize() -> None:
    """As a task's process does when it starts."""
    from airflow.sdk.observability.metrics.stats_utils import get_stats_factory
    from airflow.sdk.observability.stats import Stats

    before_3_3 = bool(inspect.signature(get_stats_factory).parameters)
    if before_3_3:
        Stats.initialize(factory=get_stats_factory(Stats))
    else:
        Stats.initialize(factory=get_stats_factory(), export_legacy_names=False)


@processor("email.welcome", max_attempts=2)
def welcome(action) -> None:
    """Raise what the payload says."""
    endings = {"reject": Reject("no"), "skip": Skip("no"), "fail": ValueError("ill")}
    if (end := action.payload.get("end")) is not None:
        raise endings[end]


def test_a_dag_run_tells_what_it_claimed_and_how_it_ended(connected, run_dag, statsd):
    @dag(schedule=None, catchup=False)
    def dispatching() -> None:
        dispatch(welcome, fail_task_on="never", batch_size=2)

    with using_hook() as hook:
        for end in (None, None, "reject", "skip", "fail"):
            hook.quick("email.welcome", timedelta(seconds=-30), {"end": end} if end else {})
        hook.quick("email.welcome", "PT1H", {}, idempotency="later")
        hook.quick("email.welcome", "PT1H", {}, idempotency="later")
    assert statsd.heard() == {"published.email__welcome": [1.0] * 6}
    run_dag(dispatching())
    heard = statsd.heard()
    (lag,) = heard.pop("lag.email__welcome")
    assert 30_000 <= lag < 60_000
    assert heard.pop("oldest_due.email__welcome") == [0]
    assert {name: sum(values) for name, values in heard.items()} == {
        "claimed.email__welcome": 5,
        "backlog.email__welcome": 0,
        "processed.email__welcome": 2,
        "dead.email__welcome": 1,
        "skipped.email__welcome": 1,
        "failed.email__welcome": 1,
    }


def test_with_a_backend_that_knows_tags_the_type_is_one(sqlite, statsd, monkeypatch):
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", "True")
    initialize()
    with using_hook() as hook:
        hook.quick("email.welcome, second=1", NOW, {})
    assert statsd.heard() == {"published,type=email.welcome__second_1": [1]}


def test_what_is_lost_or_given_back_is_told_as_that(connected, statsd):
    Publisher(connected.engine).publish_many([lambda d: d.type("mail")] * 2)
    with using_log() as log:
        taken = log.claim_to_run(["mail"], 2, 60, Owner("w"))
        first, second = (row.id for row in taken.rows)
        log.settle(taken.token, [released(first, NOW, failed=False)])
        log.settle(taken.token, [processed(first), processed(second)])
    heard = statsd.heard()
    assert heard["released.mail"] == [1]
    assert heard["processed.mail"] == [1]
    # Nobody has taken the first again, so its type is known no more.
    assert heard["lost.unknown"] == [1]


def test_what_is_written_beside_the_work_is_told_too(connected, statsd, monkeypatch):
    """Results that a resident exchanges for more work, and those in a processor's transaction."""
    monkeypatch.setattr(metrics, "BACKLOG_EVERY", 0)
    Publisher(connected.engine).publish_many([lambda d: d.type("mail")] * 3)
    with using_log() as log:
        first = log.claim_to_run(["mail"], 1, 60, Owner("w"))
        results = {first.token: [processed(first.rows[0].id)]}
        lost, second = log.exchange(
            results,
            [first.token],
            lambda tx: claiming.claim_to_run(tx, ["mail"], 2, 60, Owner("w")),
        )
        assert lost == {first.token: set()}
        with_it, left = second.rows
        log.settle_with(second.token, lambda _: processed(with_it.id))
        log.settle_with(second.token, lambda _: released(left.id, NOW, failed=True))
        log.settle("a0000000-0000-0000-0000-000000000000", [])
        log.settle_with("a0000000-0000-0000-0000-000000000000", lambda _: processed(left.id))
    heard = statsd.heard()
    assert heard["claimed.mail"] == [1, 2]
    assert heard["processed.mail"] == [1, 1]
    assert heard["lost.mail"] == [1]
    assert heard["backlog.mail"] == [2, 0]
    assert "failed.mail" not in heard


def test_a_watcher_tells_what_waits_although_nobody_claims(connected, statsd):
    publisher = Publisher(connected.engine)
    publisher.quick("mail", timedelta(seconds=-60), {})
    publisher.quick("mail", NOW, {})
    publisher.quick("order.expire", NOW, {})

    async def story():
        async with watching(ActionsDueTrigger(["mail", "sms"], ["order."])) as watch:
            await watch.event()

    asyncio.run(story())
    heard = statsd.heard()
    assert {name: value for name, value in heard.items() if "backlog" in name} == {
        "backlog.mail": [2], "backlog.sms": [0], "backlog.order__expire": [1]
    }  # fmt: skip
    assert 60 <= heard["oldest_due.mail"][0] < 90


def test_the_backlog_is_counted_now_and_then_and_up_to_a_bound(connected, statsd, monkeypatch):
    monkeypatch.setattr(backlogs, "_BACKLOG", backlogs._BACKLOG.replace("10000", "3"))
    Publisher(connected.engine).publish_many([lambda d: d.type("mail")] * 5)
    with using_log() as log:
        for number in range(3):
            log.claim(["mail"], 0, 60, Owner(str(number)))
        assert statsd.heard()["backlog.mail"] == [3]
        monkeypatch.setattr(metrics, "BACKLOG_EVERY", 0)
        log.tell_backlog(["mail"])
        assert statsd.heard()["backlog.mail"] == [3]


def test_a_retry_is_late_by_intention(connected, statsd):
    Publisher(connected.engine).quick("mail", NOW, {})
    with using_log() as log:
        for number in range(2):
            taken = log.claim_to_run(["mail"], 1, 60, Owner(str(number)))
            log.settle(taken.token, [released(taken.rows[0].id, NOW, failed=True)])
    heard = statsd.heard()
    assert heard["claimed.mail"] == [1, 1]
    assert len(heard["lag.mail"]) == 1


def test_no_metric_fails_what_it_measures(connected, statsd, monkeypatch, caplog):
    from airflow.sdk.observability.stats import Stats

    def ill(*args, **kwargs):
        raise RuntimeError("the backend is ill")

    for kind in ("incr", "gauge", "timing"):
        monkeypatch.setattr(Stats, kind, ill)
    monkeypatch.setattr(MeasuredLog, "backlog", ill)
    with using_hook() as hook:
        assert hook.quick("mail", NOW, {}).status == "published"
    with using_log() as log:
        taken = log.claim_to_run(["mail"], 1, 60, Owner("w"))
        assert log.settle(taken.token, [processed(taken.rows[0].id)]) == set()
    assert "A metric could not be told" in caplog.text
    assert "the backend is ill" in caplog.text


def test_without_metrics_nothing_is_measured(sqlite):
    assert not metrics.are_on()
    log = open_log()
    assert not isinstance(log, MeasuredLog)
    log.engine.dispose()
