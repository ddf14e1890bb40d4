"""Many new actions are copied, and what is stored and said is what an INSERT would have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from enum import Enum
from itertools import takewhile

import psycopg
import pytest
from pendulum import duration
from sqlalchemy import create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from story import (
    at_once,
    claim,
    deadlocks,
    document,
    execute,
    new,
    open_transaction,
    stored,
    wait_until_blocked,
)

from airflow_claim_dispatch.core.draft import NewAction
from airflow_claim_dispatch.core.errors import DuplicateAction
from airflow_claim_dispatch.core.times import resolve
from airflow_claim_dispatch.publisher import AsyncPublisher, Publisher
from airflow_claim_dispatch.storage import publishing, wakeup
from airflow_claim_dispatch.storage.action_log import ActionLog
from airflow_claim_dispatch.storage.rows import to_action

MANY = 250

# Which statements have written rows, as far as they were kept.
OBSERVE = """
    CREATE TABLE written (way text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        INSERT INTO written VALUES (split_part(ltrim(current_query(), E' \\n'), ' ', 1));
        RETURN NULL;
    END $$;
    CREATE TRIGGER note AFTER INSERT ON action_logs FOR EACH STATEMENT EXECUTE FUNCTION note()
"""
FORGET = "DROP TRIGGER note ON action_logs; DROP FUNCTION note; DROP TABLE written"


@pytest.fixture
def log(postgres_log: ActionLog) -> Iterator[ActionLog]:
    execute(postgres_log, OBSERVE)
    yield postgres_log
    execute(postgres_log, FORGET)


def many(amount: int = MANY, prefix: str = "") -> list[NewAction]:
    return [new(key=f"{prefix}{n:04}", payload={"n": n}) for n in range(amount)]


def ways(log: ActionLog) -> list[str]:
    """Return how rows have been written since this was asked last."""
    return [way for (way,) in execute(log, "DELETE FROM written RETURNING way")]


def amount(log: ActionLog) -> int:
    return execute(log, "SELECT count(*) FROM action_logs")[0][0]


def test_many_new_actions_are_copied_and_few_are_inserted(log):
    log.publish(many(199))
    assert ways(log) == ["INSERT"]
    log.publish(many(200, "more"))
    assert ways(log) == ["INSERT", "COPY"]


def test_receipts_come_by_position(log):
    actions = many()[::-1]
    receipts = log.publish(actions)
    assert ways(log) == ["INSERT", "COPY"]
    assert {receipt.status for receipt in receipts} == {"published"}
    for action, receipt in zip(actions, receipts, strict=True):
        assert stored(log, receipt.id, "idempotency_key") == action.idempotency_key


@pytest.mark.parametrize("steps", [{}, {"key": "k"}], ids=["without a key", "with a key"])
def test_an_action_is_stored_as_it_would_be_inserted(log, steps):
    """In each column, whatever there is to escape or to reckon."""
    due = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    odd = 'a\\b"c\td\ne\rf\\N\\.\x0bü😀\u2028{},'
    descriptions = [
        {},
        {"payload": {"text": odd, odd: [None, 1.5, 2**70]}, "meta": {"note": odd}},
        {"rules": {"==": [{"var": "payload.a"}, "\\"]}},
        {"eligible_at": due, "expires_at": due + timedelta(microseconds=1)},
        {"eligible_at": "P1M", "expires_at": "P1Y2M3DT4H5M6.789S"},
        {"eligible_at": timedelta(seconds=-1, microseconds=1), "expires_at": timedelta(days=9)},
        {"eligible_at": timedelta(0)},
    ]

    def described(number: int, prefix: str) -> NewAction:
        draft = descriptions[number % len(descriptions)]
        key = f"{prefix}{odd}{number:04}" if steps else None
        return new(f"mail{odd}", key, **draft)

    copied = log.publish([described(n, "c") for n in range(MANY)])
    assert ways(log) == ["INSERT", "COPY"]
    for number in range(len(descriptions)):
        (inserted,) = log.publish([described(number, "i")])
        columns = (
            "payload", "end_at", "expires_at", "created_at", "updated_at", "attempts", "outcome",
            "visible_at", "claim_token", "substr(idempotency_key, 2)",
        )  # fmt: skip
        position = number + 7 * len(descriptions)  # beyond what is inserted first
        expected = stored(log, inserted.id, *columns[:-1])
        assert stored(log, copied[position].id, *columns[:-1]) == expected
        if steps:
            assert stored(log, copied[number].id, columns[-1]) == f"{odd}{number:04}"


class Kind(str, Enum):
    """Text, whose format is not its text."""

    MAIL = "mail"


def test_a_member_of_an_enumeration_is_copied_as_it_would_be_inserted(log):
    (first,) = log.publish([new(Kind.MAIL, Kind.MAIL)])
    receipts = log.publish([*many(), new(Kind.MAIL, Kind.MAIL)])
    assert receipts[-1] == {"status": "duplicate", "id": first.id}
    assert execute(log, "SELECT DISTINCT type FROM action_logs") == [("mail",)]


def test_where_a_trigger_may_change_a_row_all_are_inserted(log):
    """It may drop the row, or give it another id: a COPY would not tell."""
    execute(
        log,
        "CREATE FUNCTION drop_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF new.idempotency_key = '0100' THEN RETURN NULL; END IF; RETURN new; END $$;"
        " CREATE TRIGGER drop_one BEFORE INSERT ON action_logs"
        " FOR EACH ROW EXECUTE FUNCTION drop_one()",
    )
    try:
        receipts = log.publish(many())
    finally:
        execute(log, "DROP TRIGGER drop_one ON action_logs; DROP FUNCTION drop_one")
    assert ways(log) == ["INSERT", "INSERT"]
    published = {receipt.id for receipt in receipts if receipt.status == "published"}
    assert published == {id_ for (id_,) in execute(log, "SELECT id FROM action_logs")}
    assert len(published) == MANY - 1


def test_without_a_clock_the_database_says_when(log):
    Publisher(log.engine).publish_many(
        [lambda draft, n=n: draft.type("mail").idempotency(str(n)) for n in range(MANY)]
    )
    assert ways(log) == ["INSERT", "COPY"]
    assert execute(
        log,
        "SELECT count(*) FROM action_logs WHERE abs(extract(epoch FROM now() - end_at)) < 60"
        " AND created_at = updated_at AND created_at - end_at BETWEEN '0' AND '10 s'",
    ) == [(MANY,)]


def test_a_copy_beside_what_is_due_later_tells_when_each_is_due(log):
    Publisher(log.engine).publish_many(
        lambda draft, n=n: draft.type("mail").idempotency(str(n)).eligible_at(timedelta(hours=n))
        for n in range(MANY)
    )
    assert ways(log) == ["INSERT", "COPY"]
    assert execute(
        log,
        "SELECT count(*) FROM action_logs WHERE created_at - end_at"
        " + make_interval(hours => CAST(idempotency_key AS int)) BETWEEN '0' AND '10 s'",
    ) == [(MANY,)]


@pytest.mark.parametrize("taken", [0, 3, 4, 5, 100, MANY - 1])
def test_a_key_that_is_taken_is_kept_and_all_others_are_published(log, taken):
    (old,) = log.publish([new(key=f"{taken:04}", payload={"old": True})])
    receipts = log.publish(many())
    assert receipts[taken] == {"status": "duplicate", "id": old.id}
    assert document(log, old.id) == {"old": True}
    published = [receipt for receipt in receipts if receipt.status == "published"]
    assert len({receipt.id for receipt in published}) == MANY - 1
    assert all(document(log, receipt.id) == {"n": n} for n, receipt in enumerate(receipts)
               if n != taken)  # fmt: skip
    assert amount(log) == MANY


def test_who_publishes_the_same_again_copies_nothing(log):
    first = log.publish(many())
    size = "SELECT pg_relation_size('action_logs')"
    before = execute(log, size)
    second = log.publish(many())
    assert execute(log, size) == before
    assert [receipt.id for receipt in second] == [receipt.id for receipt in first]
    assert {receipt.status for receipt in second} == {"duplicate"}


@pytest.mark.parametrize("position", [2, 180])
def test_a_key_that_repeats_within_a_call_counts_once(log, position):
    actions = many()
    actions.append(actions[position])
    receipts = log.publish(actions)
    assert receipts[-1] == {"status": "duplicate", "id": receipts[position].id}
    assert amount(log) == MANY


def test_with_raise_nothing_is_written_where_a_key_is_taken(log):
    (old,) = log.publish([new(key="0200")])
    with pytest.raises(DuplicateAction) as raised:
        log.publish([new(key=f"{n:04}", on_conflict="raise") for n in range(MANY)])
    assert raised.value.action_id == old.id
    assert amount(log) == 1


def test_replacements_go_beside_what_is_copied(log):
    (old,) = log.publish([new(key="0100", payload={"old": True})])
    assert ways(log) == ["INSERT"]
    actions = many()
    actions[100] = new(key="0100", payload={"n": 100}, on_conflict="replace")
    receipts = log.publish(actions)
    assert ways(log) == ["INSERT", "COPY"]
    assert receipts[100] == {"status": "published", "id": old.id}
    assert document(log, old.id) == {"n": 100}


def test_a_copy_waits_for_another_publisher_of_one_of_its_keys(log, pool):
    with open_transaction(log) as tx:
        (first,) = publishing.publish(tx, [new(key="0100")])
        second = pool.submit(log.publish, many())
        wait_until_blocked(log, second)
    receipts = second.result(10)
    assert receipts[100] == {"status": "duplicate", "id": first.id}
    assert amount(log) == MANY


def test_publishers_of_the_same_keys_do_not_deadlock(log):
    before = deadlocks(log)
    for round_ in range(5):
        ours, theirs = many(600, f"{round_}-"), many(600, f"{round_}-")[::-1]
        first, second = at_once(lambda a=ours: log.publish(a), lambda a=theirs: log.publish(a))
        published = [r.id for r in first + second if r.status == "published"]
        assert len(published) == 600
        assert {r.id for r in first} == {r.id for r in second} == set(published)
    assert deadlocks(log) == before


def test_what_is_copied_can_be_claimed(log):
    receipts = log.publish(many())
    rows = claim(log, limit=MANY).rows
    assert [row.id for row in rows] == [receipt.id for receipt in receipts]
    assert to_action(rows[17], log.dialect).payload == {"n": 17}


@pytest.fixture
def told(log):
    """Return what counts the calls on the log's channel so far."""
    listener = wakeup.listen(log.engine, log.names)

    def count() -> int:
        listener.execute("SELECT pg_notify(%s, 'end')", [log.names.channel])
        calls = iter(listener.notifies(timeout=10))
        return sum(1 for _ in takewhile(lambda call: call.payload != "end", calls))

    yield count
    listener.close()


@pytest.mark.parametrize(
    ("eligible_at", "calls"),
    [
        (timedelta(0), 1),
        (timedelta(seconds=15), 1),
        (timedelta(seconds=16), 0),
        ("P1M", 0),
        (duration(months=-1), 1),
        (duration(months=1, days=-31), 1),
        (duration(months=1, days=-27), 0),
        (datetime(2020, 1, 1, tzinfo=timezone.utc), 1),
        (datetime(2100, 1, 1, tzinfo=timezone.utc), 0),
    ],
)
@pytest.mark.parametrize("number", [3, MANY])
def test_watchers_are_woken_if_one_of_them_is_soon_due(log, told, number, eligible_at, calls):
    actions = [new(key=f"{n:04}", eligible_at="P1Y") for n in range(number)]
    actions[-2] = new(key="soon", eligible_at=eligible_at)
    log.publish(actions)
    assert told() == calls


def test_a_few_that_are_there_already_wake_nobody(log, told):
    log.publish([new(key="a"), new(key="b")])
    assert told() == 1
    log.publish([new(key="a"), new(key="b")])
    assert told() == 0


def test_watchers_are_woken_by_what_is_replaced_or_moved_to_a_soon_time(log, told):
    later, soon = timedelta(hours=1), timedelta(0)
    log.publish([new(key="a", eligible_at=later)])
    for moment, calls in ((later, 0), (soon, 1)):
        replacing = new(key="a", eligible_at=moment, on_conflict="replace")
        assert log.publish([replacing])[0].status == "published"
        assert told() == calls
    for moment, calls in ((later, 0), (soon, 1)):
        assert log.reschedule("mail", "a", resolve(moment, "moment")).status == "rescheduled"
        assert told() == calls


def test_what_another_transaction_rolls_back_was_never_published(log):
    with log.engine.connect() as connection:
        Publisher(connection).publish_many([lambda draft: draft.type("mail") for _ in range(MANY)])
        connection.rollback()
    assert amount(log) == 0


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("taken", [False, True])
def test_on_a_psycopg_connection_its_owner_commits(log, postgres_url, autocommit, taken):
    if taken:
        log.publish([new(key="0200")])
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    drafts = [lambda draft, n=n: draft.type("mail").idempotency(f"{n:04}") for n in range(MANY)]
    with psycopg.connect(url, autocommit=autocommit) as connection:
        with connection.transaction():
            receipts = Publisher(connection).publish_many(drafts)
            assert amount(log) == int(taken)
        connection.commit()
    assert [r.status for r in receipts].count("duplicate") == int(taken)
    assert amount(log) == MANY


def test_in_a_pipeline_of_its_owner_all_are_inserted(log, postgres_url):
    log.publish([new(key="0200")])
    url = make_url(postgres_url).set(drivername="postgresql").render_as_string(hide_password=False)
    drafts = [lambda draft, n=n: draft.type("mail").idempotency(f"{n:04}") for n in range(MANY)]
    with psycopg.connect(url) as connection, connection.pipeline():
        receipts = Publisher(connection).publish_many(drafts)
    assert [r.status for r in receipts].count("published") == MANY - 1
    assert amount(log) == MANY


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_in_asyncio_all_are_inserted(log, postgres_url, driver):
    async def publish() -> None:
        engine = create_async_engine(make_url(postgres_url).set(drivername=f"postgresql+{driver}"))
        async with engine.begin() as connection:
            publisher = AsyncPublisher(connection)
            await publisher.publish_many([lambda draft: draft.type("mail")] * MANY)
        await engine.dispose()

    asyncio.run(publish())
    assert ways(log) == ["INSERT"]
    assert amount(log) == MANY


def test_through_another_driver_all_are_inserted(log, postgres_url):
    engine = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg2"))
    assert len(ActionLog(engine, clock=log.clock).publish(many())) == MANY
    engine.dispose()
    assert ways(log) == ["INSERT"]
    assert amount(log) == MANY


@pytest.mark.parametrize(
    "unable",
    [
        "REVOKE ALL ON SEQUENCE action_logs_id_seq FROM limited",
        (
            "REVOKE INSERT ON action_logs FROM limited; GRANT INSERT (type, payload, end_at,"
            " expires_at, idempotency_key, created_at, updated_at) ON action_logs TO limited"
        ),
        (
            "ALTER TABLE action_logs ENABLE ROW LEVEL SECURITY;"
            " CREATE POLICY all_of_it ON action_logs TO limited USING (true)"
        ),
    ],
    ids=["no grant to draw ids", "no grant to write ids", "row level security"],
)
def test_who_cannot_copy_inserts(postgres, fresh_log, unable):
    log = fresh_log
    database = log.engine.url.database
    execute(log, OBSERVE)
    postgres.run("CREATE ROLE limited LOGIN PASSWORD 'secret'")
    engine = create_engine(log.engine.url.set(username="limited", password="secret"))  # noqa: S106
    try:
        execute(log, "GRANT SELECT, INSERT, UPDATE ON action_logs TO limited")
        execute(log, "GRANT USAGE ON SEQUENCE action_logs_id_seq TO limited")
        as_limited = ActionLog(engine, clock=log.clock)
        as_limited.publish(many())
        assert ways(log) == ["INSERT", "COPY"]
        execute(log, unable)
        receipts = as_limited.publish(many(MANY, "more"))
        assert {receipt.status for receipt in receipts} == {"published"}
        assert ways(log) == ["INSERT", "INSERT"]
    finally:
        engine.dispose()
        postgres.run("DROP OWNED BY limited", "DROP ROLE limited", database=database)
