"""The watcher of the dead: it tells of each death once, and of none never."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pkgutil import resolve_name

import pytest
from watches import Watch, watching

from airflow_claim_dispatch import ActionsDead, deaths, processor
from airflow_claim_dispatch.core.errors import InvalidType
from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.core.settlement import dead, processed
from airflow_claim_dispatch.deaths import ActionsDeadTrigger
from airflow_claim_dispatch.publisher import Publisher
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.testing import Clock

NOW = timedelta(0)


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(deaths, "INTERVAL", 0.1)
    monkeypatch.setattr(deaths, "LONGEST_PAUSE", 0.2)


def die(log, *types: str, many: int = 1) -> None:
    """Publish actions that die."""
    for type_ in types or ("mail",):
        Publisher(log.engine).publish_many([lambda d, t=type_: d.type(t)] * many)
        taken = log.claim_to_run([type_], many, 60, Owner("worker"))
        log.settle(taken.token, [dead(row.id, "x") for row in taken.rows], close=True)


async def quiet_for(watch: Watch, seconds: float) -> bool:
    try:
        await watch.event(seconds)
    except asyncio.TimeoutError:
        return True
    return False


class Store:
    """What Airflow keeps for a watcher from 3.3 on; it outlives the triggerer."""

    def __init__(self) -> None:
        self.kept: dict[str, object] = {}
        self.broken = False

    async def aget(self, key, default=None):
        self._check()
        return self.kept.get(key, default)

    async def aset(self, key, value):
        self._check()
        self.kept[key] = value

    def _check(self) -> None:
        if self.broken:
            raise RuntimeError("no API server")


def remembering(store: Store) -> ActionsDeadTrigger:
    trigger = ActionsDeadTrigger(["mail"])
    trigger.asset_state_store = store
    return trigger


def test_deaths_are_told_once_however_many(connected):
    async def story():
        async with watching(ActionsDeadTrigger(["mail"])) as watch:
            assert await quiet_for(watch, 0.3)
            await asyncio.to_thread(die, connected, many=3)
            event = await watch.event()
            assert event["types"] == ["mail"]
            assert await quiet_for(watch, 0.5)
            await asyncio.to_thread(die, connected)
            assert (await watch.event())["newest"] > event["newest"]
            assert await quiet_for(watch, 0.5)

    asyncio.run(story())


def test_only_deaths_of_the_types_are_told(connected):
    async def story(trigger, *dying):
        async with watching(trigger) as watch:
            assert await quiet_for(watch, 0.3)
            Publisher(connected.engine).quick("mail", NOW, {})
            taken = connected.claim_to_run(["mail"], 9, 60, Owner("w"))
            connected.settle(taken.token, [processed(row.id) for row in taken.rows])
            await asyncio.to_thread(die, connected, "sms")
            assert await quiet_for(watch, 0.3)
            await asyncio.to_thread(die, connected, *dying)
            await watch.event()

    asyncio.run(story(ActionsDeadTrigger(["mail"]), "mail"))
    asyncio.run(story(ActionsDeadTrigger([], ["order."]), "order.expire"))


def test_an_action_that_is_requeued_and_dies_again_is_told_again(connected, requeue):
    async def story():
        async with watching(ActionsDeadTrigger(["mail"])) as watch:
            await asyncio.to_thread(die, connected)
            await watch.event()
            await asyncio.to_thread(requeue)
            taken = connected.claim_to_run(["mail"], 9, 60, Owner("w"))
            assert await quiet_for(watch, 0.3)
            connected.settle(taken.token, [dead(row.id, "again") for row in taken.rows])
            await watch.event()
            assert await quiet_for(watch, 0.3)

    asyncio.run(story())


@pytest.fixture
def requeue(connected):
    """What a person does to the dead."""
    from sqlalchemy import text

    def back() -> None:
        with connected.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE action_logs SET outcome = NULL, claim_token = NULL, claimed_at = NULL"
                    " WHERE outcome = 'dead'"
                )
            )

    return back


def test_the_older_dead_that_come_into_sight_are_not_told_as_new(connected, requeue_newest):
    die(connected, many=230)

    async def story():
        async with watching(ActionsDeadTrigger(["mail"])) as watch:
            await watch.event()
            await asyncio.to_thread(requeue_newest, 20)
            assert await quiet_for(watch, 0.5)
            assert len(connected.deaths(["mail"])) == 200
            await asyncio.to_thread(die, connected)
            await watch.event()

    asyncio.run(story())


@pytest.fixture
def requeue_newest(connected, monkeypatch):
    """Return what takes back the newest dead, of which one died every minute."""
    from sqlalchemy import text

    monkeypatch.setattr(deaths, "LATE", timedelta(seconds=1))
    monkeypatch.setattr(connected, "settle", _one_by_one(connected))

    def back(many: int) -> None:
        with connected.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE action_logs SET outcome = NULL, claim_token = NULL, claimed_at = NULL"
                    " WHERE id > (SELECT max(id) FROM action_logs) - :many"
                ),
                {"many": many},
            )

    return back


def _one_by_one(log):
    """Settle as if there was a minute between two deaths."""
    settle, clock = log.settle, Clock(datetime(2026, 1, 1, tzinfo=timezone.utc))

    def run(token, settlements, **options):
        log.clock = clock
        for settlement in settlements:
            settle(token, [settlement])
            clock.advance(timedelta(minutes=1))
        log.close(token)
        log.clock = None

    return run


def test_what_was_dead_before_is_told_once_by_a_triggerer_that_remembers_nothing(connected):
    die(connected)

    async def story():
        async with watching(ActionsDeadTrigger(["mail"])) as watch:
            await watch.event()
            assert await quiet_for(watch, 0.5)

    asyncio.run(story())


def test_the_next_triggerer_tells_what_died_in_between_and_nothing_twice(connected):
    store = Store()

    async def story():
        async with watching(remembering(store)) as watch:
            await asyncio.to_thread(die, connected)
            await watch.event()
            while not store.kept:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        async with watching(remembering(store)) as watch:
            assert await quiet_for(watch, 0.5)
        await asyncio.to_thread(die, connected)
        async with watching(remembering(store)) as watch:
            await watch.event()

    asyncio.run(story())


def test_a_triggerer_that_dies_as_it_tells_has_told_nothing(sqlite, monkeypatch):
    """Airflow stores an event a while after it was handed over."""
    store = Store()
    die(sqlite)
    monkeypatch.setattr(deaths, "INTERVAL", 30)

    async def story():
        for _ in range(2):
            async with watching(remembering(store)) as watch:
                await watch.event()

    asyncio.run(story())
    assert store.kept == {}


def test_a_store_that_fails_stops_no_watcher(sqlite, caplog):
    store = Store()
    store.broken = True
    die(sqlite)

    async def story():
        async with watching(remembering(store)) as watch:
            await watch.event()
            await asyncio.to_thread(die, sqlite)
            await watch.event()

    asyncio.run(story())
    assert "Airflow does not say which dead actions were told" in caplog.text
    assert "Airflow does not remember" in caplog.text


def test_a_watcher_survives_a_missing_connection(sqlite, monkeypatch, caplog):
    die(sqlite)

    async def story():
        async with watching(ActionsDeadTrigger(["mail"], (), "shop")) as watch:
            assert await quiet_for(watch, 0.4)
            monkeypatch.setenv("AIRFLOW_CONN_SHOP", f"sqlite:///{sqlite.engine.url.database}")
            await watch.event()

    asyncio.run(story())
    assert "Cannot look for dead actions, trying again" in caplog.text


def test_what_was_told_before_the_database_went_away_is_not_told_again(sqlite, monkeypatch):
    die(sqlite)
    look, broken = sqlite.deaths, []

    def failing(self, *args):
        if len(broken) < 3:
            broken.append(1)
            if len(broken) == 2:
                raise ConnectionError("gone")
        return look(*args)

    monkeypatch.setattr(type(sqlite), "deaths", failing)

    async def story():
        async with watching(ActionsDeadTrigger(["mail"])) as watch:
            await watch.event()
            assert await quiet_for(watch, 0.8)
        assert len(broken) == 3

    asyncio.run(story())


@processor("mail", "letter")
def send(action):
    """Do nothing."""


class Orders(Processor):
    prefix = "order."

    def supports(self, type: str) -> bool:
        return True


def test_an_asset_is_named_by_what_it_watches():
    asset = ActionsDead(send, Orders(), "sms", "push.*")
    place = "claim_dispatch_default/action_logs"
    assert asset.name == f"actions dead: {place}/letter,mail,sms,order.*,push.*"
    assert asset.uri == f"claim-dispatch://{place}/dead/letter,mail,sms,order.*,push.*"
    (watcher,) = asset.watchers
    path, arguments = watcher.trigger.serialize()
    assert arguments["types"] == ["letter", "mail", "sms"]
    assert arguments["prefixes"] == ["order.", "push."]
    assert resolve_name(path)(**arguments).serialize() == (path, arguments)


def test_without_arguments_it_watches_all_types():
    asset = ActionsDead(claim_dispatch_conn_id="shop", table="sales.action_logs")
    assert asset.uri == "claim-dispatch://shop/sales.action_logs/dead/*"
    (watcher,) = asset.watchers
    assert watcher.trigger.serialize()[1]["prefixes"] == [""]


def test_what_is_no_type_is_refused():
    with pytest.raises(InvalidType):
        ActionsDead("")
