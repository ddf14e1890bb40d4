"""The watchers: they fire when something is claimable, whatever happens to the database."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pkgutil import resolve_name
from time import monotonic

import pytest
from sqlalchemy import text
from watches import Watch, watching

from airflow_claim_dispatch import doorbell, triggers
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.triggers import ActionsDueTrigger, DueTrigger

NOW = timedelta(0)


async def quiet_for(watch: Watch, seconds: float) -> bool:
    """Whether nothing is said for a while."""
    try:
        await watch.event(seconds)
    except asyncio.TimeoutError:
        return True
    return False


@pytest.fixture
def fast(monkeypatch):
    """A tenth of the usual intervals."""
    monkeypatch.setattr(triggers, "REFIRE", 0.3)
    monkeypatch.setattr(triggers, "AFTER_IDLE", 0.05)
    monkeypatch.setattr(triggers, "_FIRST_PAUSE", 0.1)
    monkeypatch.setattr(triggers, "_LONGEST_PAUSE", 0.2)


@pytest.fixture
def asleep(monkeypatch) -> threading.Event:
    """Set when a watcher has looked and sleeps."""
    sleeping, wait = threading.Event(), doorbell.Doorbell.wait

    async def noted(self, seconds):
        sleeping.set()
        return await wait(self, seconds)

    monkeypatch.setattr(doorbell.Doorbell, "wait", noted)
    return sleeping


@pytest.fixture
def deaf(monkeypatch):
    """Nobody listens: only the clock wakes."""
    monkeypatch.setenv("AIRFLOW__CLAIM_DISPATCH__LISTEN", "False")


@pytest.mark.parametrize("kind", [DueTrigger, ActionsDueTrigger])
def test_a_trigger_fires_when_something_is_due(connected, kind):
    async def story():
        async with watching(kind(["mail"])) as watch:
            assert (await watch.event())["types"] == ["mail"]

    Publisher(connected.engine).quick("mail", NOW, {})
    asyncio.run(story())


def test_a_due_trigger_fires_once_and_ends(connected):
    async def story():
        return [event.payload async for event in DueTrigger(["mail"]).run()]

    Publisher(connected.engine).quick("mail", NOW, {})
    assert asyncio.run(story()) == [{"types": ["mail"]}]


def test_a_trigger_sleeps_until_the_next_due_time(connected, deaf):
    async def story():
        async with watching(DueTrigger(["mail"])) as watch:
            await watch.event()
            return watch.times[0]

    published = monotonic()
    Publisher(connected.engine).quick("mail", timedelta(seconds=1), {})
    assert 0.9 < asyncio.run(story()) - published < 3


def test_a_trigger_sleeps_no_longer_than_its_cap(connected, deaf, monkeypatch):
    monkeypatch.setattr(doorbell, "SOON", 0.2)

    async def story():
        async with watching(DueTrigger(["mail"])) as watch:
            assert await quiet_for(watch, 0.1)
            Publisher(connected.engine).quick("mail", NOW, {})
            await watch.event(5)

    asyncio.run(story())


def test_a_notification_wakes_a_trigger_long_before_its_poll(postgresql):
    async def story():
        async with watching(DueTrigger(["mail"])) as watch:
            await listening(postgresql)
            published = monotonic()
            await asyncio.to_thread(Publisher(postgresql.engine).quick, "mail", NOW, {})
            await watch.event(5)
            return watch.times[0] - published

    assert asyncio.run(story()) < 3


async def listening(log) -> None:
    """Wait until a watcher listens and sleeps."""

    def listeners() -> int:
        with log.engine.connect() as connection:
            return connection.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
            ).scalar_one()

    while await asyncio.to_thread(listeners) == 0:  # noqa: ASYNC110  another process's state
        await asyncio.sleep(0.02)


def test_a_paused_type_wakes_nobody(connected, fast):
    connected.serve(["mail"], "me")
    with connected.engine.begin() as connection:
        connection.execute(text("UPDATE action_types SET paused_at = served_at"))
    Publisher(connected.engine).quick("mail", NOW, {})

    async def story():
        async with watching(DueTrigger(["mail"])) as watch:
            assert await quiet_for(watch, 0.5)

    asyncio.run(story())


def test_a_type_of_others_wakes_nobody_and_a_prefix_does(connected):
    Publisher(connected.engine).quick("order.expire", NOW, {})

    async def story():
        async with watching(DueTrigger(["mail"])) as watch:
            assert await quiet_for(watch, 0.5)
        async with watching(DueTrigger([], ["order."])) as watch:
            await watch.event()

    asyncio.run(story())


def test_events_that_nobody_follows_up_come_slower_and_slower(connected, fast):
    Publisher(connected.engine).quick("mail", NOW, {})

    async def story():
        async with watching(ActionsDueTrigger(["mail"])) as watch:
            for _ in range(4):
                await watch.event()
            return [
                later - sooner for sooner, later in zip(watch.times, watch.times[1:], strict=False)
            ]

    first, second, third = asyncio.run(story())
    assert 0.28 < first < second < third
    assert third > 1.1


def test_the_next_batch_is_told_of_after_one_interval(connected, fast):
    Publisher(connected.engine).publish_many([lambda d: d.type("mail")] * 3)

    async def story():
        async with watching(ActionsDueTrigger(["mail"])) as watch:
            heads = [(await watch.event())["head"]]
            for number in range(2):
                connected.claim(["mail"], 1, 60, Owner(f"run {number}"))
                heads.append((await watch.event())["head"])
            assert min(b - a for a, b in zip(watch.times, watch.times[1:], strict=False)) > 0.28
            return heads

    assert asyncio.run(story()) == [1, 2, 3]


def test_what_becomes_due_after_all_was_claimed_is_told_at_once(connected, fast, monkeypatch):
    monkeypatch.setattr(doorbell, "SOON", 0.1)
    publisher = Publisher(connected.engine)
    publisher.quick("mail", NOW, {})

    async def story():
        async with watching(ActionsDueTrigger(["mail"])) as watch:
            await watch.event()
            connected.claim_to_run(["mail"], 10, 60, Owner("me"))
            assert await quiet_for(watch, 0.5)
            published = monotonic()
            publisher.quick("mail", NOW, {})
            await watch.event()
            return watch.times[-1] - published

    assert asyncio.run(story()) < 2


def test_a_watcher_survives_a_missing_connection(sqlite, fast, monkeypatch, caplog):
    Publisher(sqlite.engine).quick("mail", NOW, {})

    async def story():
        async with watching(ActionsDueTrigger(["mail"], (), "shop")) as watch:
            assert await quiet_for(watch, 0.5)
            monkeypatch.setenv("AIRFLOW_CONN_SHOP", f"sqlite:///{sqlite.engine.url.database}")
            await watch.event()

    asyncio.run(story())
    assert "there is no connection 'shop'" in caplog.text


def test_a_watcher_survives_a_database_that_throws_it_out_and_stays_away(
    postgres, postgresql, fast, asleep, caplog
):
    database = postgresql.engine.url.database

    def close(*, shut: bool) -> None:
        postgres.run(f"ALTER DATABASE {database} ALLOW_CONNECTIONS {not shut}")
        if shut:
            postgres.run(
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                f" WHERE datname = '{database}'"
            )

    async def story():
        async with watching(ActionsDueTrigger(["mail"])) as watch:
            await asyncio.to_thread(asleep.wait, 10)
            await asyncio.to_thread(close, shut=True)
            assert await quiet_for(watch, 0.6)
            assert not watch.task.done()
            await asyncio.to_thread(close, shut=False)
            await asyncio.to_thread(Publisher(postgresql.engine).quick, "mail", NOW, {})
            await watch.event()
            # It listens again, too.
            postgresql.claim_to_run(["mail"], 10, 60, Owner("me"))
            await listening(postgresql)
            published = monotonic()
            await asyncio.to_thread(Publisher(postgresql.engine).quick, "mail", NOW, {})
            await watch.event()
            return watch.times[-1] - published

    try:
        assert asyncio.run(story()) < 5
    finally:
        close(shut=False)
    assert "Cannot look for due actions, trying again" in caplog.text


@pytest.mark.parametrize("kind", [DueTrigger, ActionsDueTrigger])
def test_what_a_trigger_serialises_makes_it_again(kind):
    path, arguments = kind(("mail",), ("order.",), "shop", "sales.action_logs").serialize()
    again = resolve_name(path)(**arguments)
    assert type(again) is kind
    assert again.serialize() == (path, arguments)
    assert arguments == {
        "types": ["mail"],
        "prefixes": ["order."],
        "claim_dispatch_conn_id": "shop",
        "table": "sales.action_logs",
        "ignored": [],
    }


@pytest.mark.parametrize("kind", [DueTrigger, ActionsDueTrigger])
def test_a_watcher_survives_a_connection_that_breaks_while_it_sleeps(
    sqlite, fast, monkeypatch, caplog, kind
):
    wait = doorbell.Doorbell.wait

    async def broken(self, seconds):
        monkeypatch.setattr(doorbell.Doorbell, "wait", wait)
        Publisher(sqlite.engine).quick("mail", NOW, {})
        raise ConnectionError("the connection is gone")

    monkeypatch.setattr(doorbell.Doorbell, "wait", broken)

    async def story():
        async with watching(kind(["mail"])) as watch:
            await watch.event()

    asyncio.run(story())
    assert "the connection is gone" in caplog.text
