"""People page through the log: every filter, every order, every action once."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from story import claim, claim_and_take, execute, insert, new, publish, settle, stored, take

from airflow_claim_dispatch.core.errors import InvalidFilter
from airflow_claim_dispatch.core.settlement import dead, processed, released, skipped
from airflow_claim_dispatch.storage import looking
from airflow_claim_dispatch.storage.states import STATES, UNSETTLED, Filter

DAY = timedelta(days=1)


@pytest.fixture
def one_of_each(log, clock):
    """One mail in each state; return its id by state."""
    a, b, c, d = publish(log, 4, eligible_at=timedelta(hours=-2))
    (cancelled,) = [r.id for r in log.publish([new(key="gone")])]
    log.cancel("mail", "gone")
    taken = claim_and_take(log)
    settle(
        log, taken.token, processed(a), skipped(b, "no need"), dead(c, "ValueError: no\nframe"),
        released(d, timedelta(hours=1), failed=True, error="OSError: later"),
    )  # fmt: skip
    (held,) = publish(log, 1, eligible_at=timedelta(hours=-1))
    claim(log)
    (due,) = publish(log, payload={"to": "Ada@example.org"}, eligible_at=timedelta(minutes=-1))
    (ahead,) = publish(log, eligible_at=DAY)
    clock.tick(1)
    return {
        "scheduled": ahead, "due": due, "claimed": held, "retrying": d,
        "processed": a, "skipped": b, "dead": c, "cancelled": cancelled,
    }  # fmt: skip


def ids(page):
    return [item.id for item in page.items]


def everything(log, which=None, limit=3, order=None):
    """Return the ids of all pages."""
    found, after = [], None
    while True:
        page = log.desk.list(which, limit, after, order)
        assert len(page.items) <= limit
        found += ids(page)
        after = page.after
        if after is None:
            return found


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_found_by_its_name(log, one_of_each, state):
    page = log.desk.list(Filter(states=state))
    assert [(item.id, item.state) for item in page.items] == [(one_of_each[state], state)]
    assert page.after is None


def test_an_empty_log_is_an_empty_page(log):
    for states in ((), *STATES):
        assert log.desk.list(Filter(states=states)).as_dict() == {
            "items": [], "after": None, "stopped": False,
        }  # fmt: skip


def test_an_item_says_what_matters(log, clock):
    (published,) = log.publish(
        [new(key="k", payload={"to": "ada"}, rules={"==": [1, 1]}, expires_at=DAY)]
    )
    clock.tick(1)
    settle(
        log, claim_and_take(log).token,
        released(published.id, timedelta(hours=1), failed=True, error="ValueError: x\nframes"),
    )  # fmt: skip
    (item,) = log.desk.list().items
    assert (item.type, item.state, item.key) == ("mail", "retrying", "k")
    assert (item.attempts, item.fail_count, item.expiries) == (1, 1, 0)
    assert item.error == "ValueError: x"
    assert '"to"' in item.payload
    assert "__rules" in item.payload
    assert item.visible_at == clock() + timedelta(hours=1)
    assert item.expires_at == clock() - timedelta(seconds=1) + DAY
    assert item.as_dict()["visible_at"] == "2026-03-01T10:00:01+00:00"


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_pages_by_id_hold_every_action_once_in_order(log, order):
    published = publish(log, 10) + publish(log, 3, "sms") + publish(log, 4)
    expected = sorted(published, reverse=order == "newest")
    for limit in (1, 3, 17, 18):
        assert everything(log, limit=limit, order=order) == expected


@pytest.mark.parametrize("order", ["soonest", "latest"])
def test_pages_by_time_hold_every_action_once_in_order_of_all_types(log, order):
    published = []
    for n in range(20):
        at = timedelta(minutes=(n * 7) % 10)
        published += [(at, id_) for id_ in publish(log, 1, "abc"[n % 3], eligible_at=at)]
    expected = [id_ for _, id_ in sorted(published, reverse=order == "latest")]
    which = Filter(states=UNSETTLED)
    for limit in (1, 3, 19, 20, 21):
        assert everything(log, which, limit, order) == expected


def test_unsettled_actions_come_soonest_first_and_others_newest_first(log):
    (late,) = publish(log, eligible_at=2 * DAY)
    (early,) = publish(log, eligible_at=DAY)
    assert ids(log.desk.list(Filter(states="scheduled"))) == [early, late]
    assert ids(log.desk.list()) == [early, late]
    assert ids(log.desk.list(Filter(states=("scheduled", "dead")))) == [early, late]


def test_what_is_published_between_two_pages_does_not_move_them(log):
    first = publish(log, 4)
    page = log.desk.list(limit=2)
    publish(log, 5)
    assert ids(log.desk.list(limit=2, after=page.after)) == first[1::-1]


def test_ends_of_several_types_are_merged(log):
    for n in range(6):
        publish(log, 1, "ab"[n % 2])
    taken = log.claim_to_run(["a", "b"], 10, 60, owner_of_tests())
    settle(
        log, taken.token,
        *(dead(row.id, "x") if row.id % 3 else skipped(row.id, "x") for row in taken.rows),
    )  # fmt: skip
    assert everything(log, Filter(states=("dead", "skipped")), 2) == [6, 5, 4, 3, 2, 1]
    assert everything(log, Filter(states="dead"), 2, "oldest") == [1, 2, 4, 5]
    assert everything(log, Filter(states="dead", types="a"), 2) == [5, 1]


def owner_of_tests():
    from airflow_claim_dispatch.storage.leases import Owner

    return Owner("tests")


def test_filters_narrow_each_other(log, one_of_each):
    due = one_of_each["due"]
    (sms,) = [r.id for r in log.publish([new("sms", "k", payload={"to": "ADA@example.org"})])]
    look = log.desk.list
    assert ids(look(Filter(text="ada@"))) == [sms, due]
    assert ids(look(Filter(text="ada@", types="mail"))) == [due]
    assert ids(look(Filter(text="ada@", states=("due", "dead")))) == [sms, due]
    assert ids(look(Filter(text="ada@", states="due", types=("mail", "sms")))) == [due, sms]
    assert ids(look(Filter(text="bob"))) == []
    assert ids(look(Filter(key="k"))) == [sms]
    assert ids(look(Filter(key="k", types="mail"))) == []
    assert ids(look(Filter(key="k", states="dead"))) == []
    assert ids(look(Filter(ids=[due, sms, 999]))) == [sms, due]
    assert ids(look(Filter(ids=[due, sms], states="due", types="sms"))) == [sms]
    assert ids(look(Filter(ids=[]))) == []


def test_a_time_range_begins_with_its_first_moment_and_ends_before_its_last(log, clock):
    start = clock()
    published = [publish(log, eligible_at=start + n * DAY)[0] for n in range(4)]
    which = {"end_from": start + DAY, "end_until": start + 3 * DAY}
    assert ids(log.desk.list(Filter(**which))) == published[2:0:-1]
    assert ids(log.desk.list(Filter(states="scheduled", **which))) == published[1:3]
    assert ids(log.desk.list(Filter(states="due", **which))) == []
    berlin = timezone(timedelta(hours=1))
    shifted = {name: moment.astimezone(berlin) for name, moment in which.items()}
    assert ids(log.desk.list(Filter(**shifted))) == published[2:0:-1]


def test_text_is_text_and_no_pattern(log):
    plain, percent, quote = [
        publish(log, payload={"x": text})[0] for text in ("100 x", "100 %", "it's \\ {now}")
    ]
    assert ids(log.desk.list(Filter(text="100 %"))) == [percent]
    assert ids(log.desk.list(Filter(text="100 _"))) == []
    assert ids(log.desk.list(Filter(text="it's"))) == [quote]
    assert ids(log.desk.list(Filter(text="{now}"))) == [quote]
    assert ids(log.desk.list(Filter(text="100"))) == [percent, plain]
    assert ids(log.desk.list(Filter(key="{now}", types="{now}'"))) == []


@pytest.mark.parametrize("states", [(), ("due",), ("due", "scheduled")])
def test_where_little_matches_a_page_ends_early_and_the_next_goes_on(log, monkeypatch, states):
    monkeypatch.setattr(looking, "LOOKED_AT", 20)
    publish(log, 60, eligible_at=timedelta(hours=-1))
    wanted = publish(log, payload={"to": "ada"}, eligible_at=timedelta(minutes=-1))
    publish(log, 60, "sms")
    which = Filter(text="ada", states=states)
    first = log.desk.list(which, 5)
    assert (first.items, first.stopped) == ([], True)
    assert first.after is not None
    assert everything(log, which, 5) == wanted
    for order in ("newest", "oldest"):
        assert everything(log, which, 5, order) == wanted


def test_a_look_that_takes_too_long_ends_and_the_next_goes_on(log, monkeypatch):
    monkeypatch.setattr(looking, "PATIENCE", -1)
    wanted = publish(log, payload={"to": "ada"})
    publish(log, 50)
    assert log.desk.list(Filter(text="ada"), 1).stopped
    assert everything(log, Filter(text="ada"), 1) == wanted


def test_claimed_actions_are_found_among_many_leases(log, monkeypatch):
    """A claim and what was taken from it hold the same ids."""
    monkeypatch.setattr(looking, "_HELD", looking._HELD.replace("20000", "4"))
    monkeypatch.setattr(looking, "_HELD_AT_MOST", 4)
    held = publish(log, 3)
    take(log, claim(log))
    assert ids(log.desk.list(Filter(states="claimed"))) == held


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ({"states": "ready"}, "'ready' is no state; the states are scheduled, due"),
        ({"types": "a\0"}, "no text that an action can hold"),
        ({"key": "\ud800"}, "no text that an action can hold"),
        ({"text": 5}, "no text that an action can hold"),
        ({"end_from": datetime.fromisoformat("2026-01-01")}, "no time zone"),
        ({"end_from": datetime.fromisoformat("9999-12-31T23:59:59-14:00")}, "is beyond the years"),
        ({"end_until": datetime.fromisoformat("0001-01-01T00:00:00+14:00")}, "is beyond the years"),
        ({"ids": ["1; DROP TABLE action_logs"]}, "is no id"),
        ({"ids": [True]}, "is no id"),
        ({"ids": [2**63]}, "is no id"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(which, words):
    with pytest.raises(InvalidFilter, match=words):
        Filter(**which)


def test_an_order_without_an_index_is_refused(log):
    for which in (Filter(), Filter(states="dead"), Filter(states=("due", "dead"))):
        with pytest.raises(InvalidFilter, match="is for unsettled actions"):
            log.desk.list(which, order="soonest")
    with pytest.raises(InvalidFilter, match="must be one of newest, oldest"):
        log.desk.list(order="random")


@pytest.mark.parametrize("after", ["", "x", "~", "1~2~3", "yesterday~5", "9" * 40 + "~1", "1e5"])
def test_a_cursor_of_nonsense_is_refused(log, after):
    publish(log, 3)
    for which in (Filter(), Filter(states="due")):
        with pytest.raises(InvalidFilter):
            log.desk.list(which, after=after)


def test_a_cursor_of_another_order_is_refused(log):
    publish(log, 3)
    by_id = log.desk.list(limit=1).after
    with pytest.raises(InvalidFilter, match="no position in a list in this order"):
        log.desk.list(Filter(states="due"), after=by_id)


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_a_page_has_a_bounded_size(log, limit):
    with pytest.raises(InvalidFilter, match="limit must be from 1 to 1000"):
        log.desk.list(limit=limit)


def test_rows_of_foreign_hands_are_listed_all_the_same(log):
    action_id = insert(log, "[1]")
    execute(
        log, "UPDATE action_logs SET created_at = :t, updated_at = :t",
        t="infinity" if log.engine.dialect.name == "postgresql" else "nonsense",
    )  # fmt: skip
    (item,) = log.desk.list().items
    assert (item.id, item.payload, item.created_at) == (action_id, "[1]", None)


def test_a_payload_that_is_no_text_is_listed_all_the_same(sqlite_log):
    action_id = insert(sqlite_log)
    execute(sqlite_log, "UPDATE action_logs SET payload = x'ff00'")
    assert ids(sqlite_log.desk.list(Filter(text="x"))) == []
    assert ids(sqlite_log.desk.list()) == [action_id]
    assert stored(sqlite_log, action_id, "payload") == b"\xff\x00"


def test_times_of_any_precision_are_paged_through_on_sqlite(sqlite_log):
    """As text, '09:00:00' comes before '09:00:00.000000'."""
    times = ["2026-01-01 09:00:00", "2026-01-01 09:00:00.5", "2026-01-01 09:00:00.500000"]
    expected = [insert(sqlite_log, end_at=time) for time in times]
    for order, found in (("soonest", expected), ("latest", expected[::-1])):
        assert everything(sqlite_log, Filter(states="due"), 1, order) == found


@pytest.mark.parametrize(
    ("which", "order", "index"),
    [
        (Filter(states="dead"), "newest", "action_logs_ended"),
        (Filter(states="due"), "soonest", "action_logs_due"),
        (Filter(states="scheduled"), "latest", "action_logs_due"),
        (Filter(key="k"), "newest", "action_logs_key"),
        (Filter(ids=[1]), "newest", "PRIMARY KEY"),
    ],
)
def test_sqlite_reads_along_the_indexes_too(sqlite_log, which, order, index):
    log = sqlite_log
    log.publish([new(key="k"), new()])
    settle(log, claim_and_take(log).token, dead(1, "x"))
    way = looking.Way.of(which, order)

    def plans(tx):
        look = looking.Look(tx, which, way, None, 50)
        statement = "EXPLAIN QUERY PLAN SELECT a.id FROM {actions} a WHERE @where ORDER BY @order"
        for stream in look.streams():
            explained = statement.replace("@where", stream.where).replace("@order", way.columns)
            parameters = which.parameters(tx.dialect) | stream.parameters
            yield [row[-1] for row in tx.rows(explained, **parameters)]

    explained = log.transact(lambda tx: list(plans(tx)))
    assert explained
    for steps in explained:
        assert index in steps[0], steps
        if which.key is None and which.ids is None:
            assert not [step for step in steps if "TEMP B-TREE" in step]
