"""The page in a real Airflow, through a real browser."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone

import pytest
from browser import PAGE, browsing
from contrast import faint

from airflow_claim_dispatch import ActionLog, Publisher
from airflow_claim_dispatch.storage.states import STATES, Filter

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = playwright.expect
expect.set_options(timeout=20_000)


CALL = "partner.call"
HOUR = timedelta(hours=1)
HOSTILE = "<img src=x onerror=\"window.broken='yes'\"><script>broken='yes'</script>{{ 7 * 7 }}"
#: In which Airflow starts a task, and the page looks again.
PATIENCE = 90_000
VIEWS = ("?view=plan&at=P1D", "?view=decisions", "?view=doctor")


def wait_until(condition, timeout=120.0):
    """Poll what only another process can change."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s"
        time.sleep(0.25)


@pytest.fixture(scope="module")
def browser(stack, tmp_path_factory):
    with browsing(stack.airflow, tmp_path_factory.mktemp("profiles")) as browser:
        yield browser


@pytest.fixture(scope="module")
def dead(stack):
    """The ids of two actions that a real task has let die; the payload of one is hostile."""
    publisher, log = Publisher(stack.engine), ActionLog(stack.engine)
    ids = [
        publisher.quick(CALL, timedelta(0), {"note": note}, idempotency=key).id
        for key, note in (("call:1", "please call back"), ("call:2", HOSTILE))
    ]
    stack.airflow.rest.wait_for_dag("partner_calls")
    stack.airflow.rest.pause("partner_calls", paused=False)
    wait_until(lambda: [log.desk.show(id_).state for id_ in ids] == ["dead", "dead"])
    return ids


@pytest.fixture(scope="module")
def window(browser, dead):
    page = browser.page()
    yield page
    page.close()


@pytest.fixture
def page(window):
    """The administrator's window, at the overview."""
    go(window, "")
    yield window
    assert window.trouble == []


def go(page, search):
    """Go to another place on the page as its links do, without loading Airflow anew."""
    page.evaluate(
        """(place) => {
            history.pushState({}, "", place);
            dispatchEvent(new PopStateEvent("popstate", { state: {} }));
        }""",
        PAGE + search,
    )


def wait_until_shown(page):
    expect(page.get_by_role("navigation", name="Views")).to_be_visible()
    expect(page.get_by_role("status", name="Loading")).to_have_count(0)


def test_browse_leads_to_the_overview_and_the_overview_to_the_dead(page):
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Claim Dispatch").click()
    row = page.get_by_role("row", name=re.compile(CALL))
    expect(row).to_contain_text("served by airflow/partner_calls/")
    expect(row.get_by_role("img")).to_have_attribute("aria-label", re.compile("2 dead"))
    row.get_by_role("link", name="2", exact=True).click()
    expect(page).to_have_url(re.compile(f"types={CALL}&states=dead"))
    expect(page.get_by_role("row", name=re.compile("hung up"))).to_have_count(2)


def test_filters_narrow_the_list_and_stay_in_the_address(page, dead):
    page.get_by_role("link", name="Actions").click()
    page.get_by_role("button", name="dead", exact=True).click()
    page.get_by_label("Idempotency key").fill("call:1")
    rows = page.locator("[data-action]")
    expect(rows).to_have_count(1)
    expect(rows).to_have_attribute("data-action", str(dead[0]))
    expect(page).to_have_url(re.compile("states=dead&key=call%3A1"))
    page.reload()
    expect(page.get_by_label("Idempotency key")).to_have_value("call:1")
    expect(page.get_by_role("button", name="dead", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )
    page.get_by_label("Idempotency key").fill("no such key")
    expect(page.get_by_text("Nothing matches this filter.")).to_be_visible()
    page.go_back()
    expect(rows).to_have_count(1)


def test_the_list_finds_text_in_payloads(page, dead):
    go(page, f"?view=actions&types={CALL}")
    page.get_by_label("Text in payload").fill("CALL BACK")
    expect(page.locator("[data-action]")).to_have_count(1)
    expect(page.locator("[data-action]")).to_have_attribute("data-action", str(dead[0]))


def test_a_hostile_payload_stays_text(page, dead):
    go(page, f"?action={dead[1]}")
    expect(page.get_by_label("Payload").last).to_contain_text(
        "<script>broken='yes'</script>{{ 7 * 7 }}"
    )
    go(page, f"?view=actions&types={CALL}")
    expect(page.locator("[data-action]").first).to_be_visible()
    assert page.evaluate("window.broken") is None
    assert page.locator("img[src=x]").count() == 0


def test_an_action_leads_to_the_log_of_the_task_that_ran_it_and_its_task_back(page, dead):
    go(page, f"?action={dead[0]}")
    expect(page.get_by_role("note", name="Why")).to_contain_text("hung up")
    page.get_by_role("link", name=re.compile(r"partner_calls .*run \[0\], try 1")).click()
    expect(page.get_by_text(re.compile("dead", re.IGNORECASE)).first).to_be_visible()
    expect(page).to_have_url(re.compile("/dags/partner_calls/runs/.*/mapped/0"))
    page.get_by_role("link", name="Claimed actions").click()
    expect(page.locator(f"[data-action='{dead[0]}']")).to_be_visible()
    page.goto(page.url.partition("/tasks/")[0])
    page.get_by_role("link", name="Claimed actions").click()
    page.locator(f"[data-action='{dead[1]}']").get_by_role("link", name=CALL).click()
    expect(page.get_by_role("heading", name=CALL)).to_be_visible()


def test_why_not_is_one_sentence(stack, page):
    tomorrow = Publisher(stack.engine).quick(CALL, timedelta(days=1), {"note": "later"})
    nobody = Publisher(stack.engine).quick("nobody.serves", timedelta(0), {})
    go(page, f"?action={tomorrow.id}")
    expect(page.get_by_role("note", name="Why")).to_contain_text("Not due until")
    go(page, f"?action={nobody.id}")
    expect(page.get_by_role("note", name="Why")).to_contain_text("No processor has ever claimed")
    go(page, "")
    expect(page.get_by_text("Nobody serves: ")).to_contain_text("nobody.serves")


def test_a_list_looks_again_by_itself(stack, page):
    go(page, "?view=actions&types=nobody.comes")
    expect(page.get_by_text("Nothing matches this filter.")).to_be_visible()
    Publisher(stack.engine).quick("nobody.comes", timedelta(days=1), {})
    expect(page.get_by_role("row", name=re.compile("nobody.comes"))).to_be_visible()


def test_times_are_in_the_zone_that_airflow_shows(stack, page):
    id_ = Publisher(stack.engine).quick("nobody.comes", timedelta(days=1), {}).id
    go(page, f"?action={id_}")
    choose_zone(page, "Asia/Tokyo")
    page.get_by_role("button", name="Reschedule").click()
    question = page.get_by_role("alertdialog")
    expect(question.get_by_role("button", name="Reschedule 1 action")).to_be_disabled()
    question.get_by_label("New time (Asia/Tokyo)").fill("2030-01-02T09:00")
    question.get_by_role("button", name="Reschedule 1 action").click()
    page.get_by_role("button", name="Close").click()
    earliest = page.get_by_role("definition").first
    expect(earliest).to_contain_text("2030-01-02 09:00:00")
    choose_zone(page, "UTC")
    expect(earliest).to_contain_text("2030-01-02 00:00:00")


def choose_zone(page, zone):
    """Do what Airflow does when its user chooses a time zone."""
    page.evaluate(
        """(zone) => {
            localStorage.setItem("timezone", JSON.stringify(zone));
            dispatchEvent(new StorageEvent("local-storage", { key: "timezone" }));
        }""",
        zone,
    )


def test_the_keyboard_opens_a_question_and_leaves_it_unanswered(page, dead):
    go(page, f"?action={dead[0]}")
    requeue = page.get_by_role("button", name="Requeue")
    requeue.focus()
    page.keyboard.press("Enter")
    question = page.get_by_role("alertdialog", name="Requeue?")
    expect(question).to_contain_text("1 action will run again")
    expect(question.get_by_role("button", name="Back")).to_be_focused()
    page.keyboard.press("Escape")
    expect(question).to_be_hidden()
    expect(requeue).to_be_focused()


def test_whatever_can_be_used_has_a_name(page, dead):
    for search in ("", f"?view=actions&types={CALL}", f"?action={dead[0]}", *VIEWS):
        go(page, search)
        wait_until_shown(page)
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("#claim-dispatch :is(button, a, input, select)")]
                .filter((it) => it.checkVisibility() && !it.ariaLabel && !it.textContent.trim()
                    && !it.labels?.length)
                .map((it) => it.outerHTML.slice(0, 200))"""
        )
        assert unnamed == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_either_theme(page, dead, theme):
    page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
    page.reload()
    states = "&".join(f"states={state}" for state in STATES)
    for search in ("", f"?view=actions&{states}", f"?action={dead[0]}", *VIEWS):
        go(page, search)
        wait_until_shown(page)
        assert faint(page) == []


def test_a_narrow_window_shows_it_all_without_scrolling_sideways(page, dead):
    page.set_viewport_size({"width": 400, "height": 800})
    for search in ("", f"?view=actions&types={CALL}", f"?action={dead[0]}", *VIEWS):
        go(page, search)
        wait_until_shown(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.set_viewport_size({"width": 1280, "height": 860})


def test_a_type_is_paused_and_resumed(page, dead):
    page.get_by_role("button", name=f"Pause {CALL}").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Pause").click()
    row = page.locator(f"[data-type='{CALL}']")
    expect(row).to_contain_text("paused by admin")
    page.get_by_role("button", name=f"Resume {CALL}").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Resume").click()
    expect(row).not_to_contain_text("paused")


def test_a_plan_says_what_would_be_claimed_at_a_time_as_the_shell_does(stack, page):
    publisher = Publisher(stack.engine)
    for minutes in (30, 40):
        publisher.quick("nobody.plans", timedelta(minutes=minutes), {})
    page.get_by_role("link", name="Plan").click()
    expect(page.get_by_role("button", name="Now")).to_have_attribute("aria-pressed", "true")
    row = page.locator("[data-type='nobody.plans']")
    expect(page.get_by_role("status")).to_contain_text("would be claimed")
    expect(row).to_have_count(0)
    page.get_by_role("button", name="In 1 hour").click()
    expect(page).to_have_url(re.compile("view=plan&at=PT1H"))
    expect(row).to_contain_text("nobody serves it")
    expect(row.get_by_role("cell")).to_contain_text(["nobody.plans", "0", "2"])
    page.get_by_label("At (UTC)").fill(f"{datetime.now(timezone.utc) + HOUR / 1.7:%Y-%m-%dT%H:%M}")
    expect(row.get_by_role("cell")).to_contain_text(["nobody.plans", "0", "1"])
    go(page, "?view=plan&at=tomorrow")
    expect(page.get_by_role("alert")).to_contain_text("neither an ISO 8601 time")
    page.get_by_role("button", name="In 1 hour").click()
    expect(row).to_have_count(1)
    listed = page.locator("[data-type]").evaluate_all("rows => rows.map((it) => it.dataset.type)")
    assert listed == [one.type for one in ActionLog(stack.engine).desk.plan("PT1H").types]


def test_a_plan_shows_what_the_next_claim_of_a_type_takes(stack, page):
    ids = [
        Publisher(stack.engine).quick(CALL, timedelta(days=2, minutes=n), {}).id for n in range(2)
    ]
    go(page, "?view=plan&at=P3D")
    row = page.locator(f"[data-type='{CALL}']")
    expect(row).to_contain_text("airflow/partner_calls/")
    row.get_by_role("link", name=f"#{ids[0]}").click()
    expect(page.get_by_role("note", name="Why")).to_contain_text("Not due until")


def test_the_doctor_says_what_is_wrong_and_what_to_do(stack, page):
    id_ = Publisher(stack.engine).quick("nobody.cures", -HOUR, {}).id
    page.get_by_role("link", name="Doctor").click()
    checks = page.get_by_role("list", name="Checks").get_by_role("listitem")
    diagnosis = ActionLog(stack.engine).desk.doctor()
    expect(checks).to_have_count(len(diagnosis.checks))
    for shown, check in zip(checks.all(), diagnosis.checks, strict=True):
        expect(shown).to_contain_text(check.name)
        expect(shown).to_contain_text("problem" if check.problems else "ok")
    sick = page.locator("[data-check='processors']")
    expect(sick).to_contain_text("nobody.cures")
    expect(sick).to_contain_text("→ ")
    expect(page.get_by_role("status").first).to_contain_text("found.")
    ActionLog(stack.engine).desk.cancel(id_, by="ada")


@pytest.fixture
def ended(stack):
    """Three actions that were processed more than a year ago."""
    publisher = Publisher(stack.engine)
    for _ in range(3):
        publisher.quick("old.mail", timedelta(days=1), {})
    with stack.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE action_logs SET outcome = 'processed', end_at = now() - interval '400 days',"
            " processed_at = now() - interval '400 days', created_at = now() - interval '401 days'"
            " WHERE type = 'old.mail'"
        )


def test_a_purge_is_counted_and_confirmed_and_on_record(stack, page, ended):
    page.get_by_role("button", name="Purge").click()
    question = page.get_by_role("alertdialog", name="Purge?")
    expect(question.get_by_role("row", name=re.compile("old.mail processed 3"))).to_be_visible()
    retention = question.get_by_label(re.compile("Retention"))
    expect(retention).to_have_value(re.compile('"decisions": "P1Y"'))
    retention.fill('{"old.mail": {"dead": "P1D"}}')
    expect(question).to_contain_text("Nothing has outlived it.")
    expect(question.get_by_role("button", name="Purge")).to_be_disabled()
    retention.fill('{"old.mail": ')
    expect(question.get_by_role("alert")).to_contain_text("The retention is not JSON.")
    retention.fill('{"old.mail": {"processed": "P1D"}}')
    question.get_by_role("button", name="Purge 3 actions").click()
    done = page.get_by_role("alertdialog", name="Done")
    expect(done).to_contain_text("3 actions, 0 leases and 0 decisions deleted.")
    done.get_by_role("button", name="Close").click()
    expect(page.get_by_role("alertdialog")).to_have_count(0)
    page.get_by_role("link", name="Decisions").click()
    expect(page.get_by_role("row", name=re.compile("admin purge, 3 actions"))).to_contain_text(
        'retention: {"old.mail":{"processed":"P1D"}}'
    )
    assert ActionLog(stack.engine).desk.list(Filter(types=["old.mail"])).items == []


def test_a_long_purge_goes_on_until_all_is_done(page, ended):
    """A server that stops after each stretch is asked again."""
    asked = []

    def answer(route):
        body = route.request.post_data_json
        if not body.get("dry_run"):
            asked.append(body["after"])
        rest = {"leases": 0, "decisions": 0, "by_type": {}, "dry_run": False, "retention": {}}
        after = f"actions:{len(asked)}" if len(asked) < 3 else None
        route.fulfill(json={"actions": 1_000, "after": after, **rest})

    page.route("**/api/purge", answer)
    page.get_by_role("button", name="Purge").click()
    question = page.get_by_role("alertdialog", name="Purge?")
    expect(question).to_contain_text("At least 1,000 actions, 0 leases and 0 decisions will be")
    question.get_by_role("button", name="Purge all").click()
    expect(page.get_by_role("alertdialog", name="Done")).to_contain_text("3,000 actions")
    assert asked == [None, "actions:1", "actions:2"]
    page.unroute("**/api/purge")
    page.get_by_role("button", name="Close").click()


def test_who_may_only_read_sees_no_payload_and_nothing_to_decide(browser, dead):
    page = browser.page("rob", f"{PAGE}?action={dead[0]}")
    expect(page.get_by_role("note", name="Why")).to_contain_text("hung up")
    expect(page.get_by_label("Payload").last).to_contain_text('"note": "***"')
    expect(page.get_by_text("read only")).to_be_visible()
    go(page, f"?view=actions&types={CALL}")
    expect(page.locator("[data-action]").first).to_be_visible()
    expect(page.get_by_label("Text in payload")).to_be_disabled()
    verbs = re.compile("Requeue|Cancel|Run now|Reschedule|Pause|Select|Purge")
    assert page.get_by_role("button", name=verbs).count() == 0
    go(page, "")
    expect(page.locator(f"[data-type='{CALL}']")).to_be_visible()
    assert page.get_by_role("button", name=verbs).count() == 0
    assert page.get_by_text("please call back").count() == 0
    assert page.trouble == []
    page.close()


def test_a_viewer_is_refused(browser, dead):
    page = browser.page("vera")
    expect(page.get_by_role("alert")).to_contain_text("You may not read the action log")
    answer = page.evaluate(
        """async (id) => (await fetch("/claim-dispatch/api/requeue", {
            method: "POST", headers: {"Content-Type": "application/json"},
            body: JSON.stringify({which: {ids: [id]}}),
        })).status""",
        dead[0],
    )
    assert answer == 403
    page.close()


def test_dead_actions_are_requeued_after_a_question_and_then_run(page, dead):
    go(page, f"?view=actions&states=dead&types={CALL}")
    page.get_by_role("button", name="Requeue").click()
    page.get_by_role("button", name="Requeue 2 actions").click()
    expect(page.get_by_role("alertdialog")).to_contain_text("2 actions requeued.")
    page.get_by_role("button", name="Close").click()
    go(page, f"?action={dead[0]}")
    expect(page.get_by_text("processed", exact=True)).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_role("region", name="Decisions")).to_contain_text("admin: requeue")
    page.get_by_role("link", name="Decisions").click()
    expect(page.get_by_role("row", name=re.compile("admin.*requeue, 2 actions"))).to_be_visible()
