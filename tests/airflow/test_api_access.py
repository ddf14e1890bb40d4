"""Who may see and who may decide."""

from __future__ import annotations

import subprocess
import sys

import pytest
from callers import JSON, Caller, app

from airflow_claim_dispatch.ui.plugin import PREFIX, ClaimDispatchPlugin

BODY = '{"type": "email"}'


@pytest.fixture
def admin():
    return Caller("ada", "admin")


@pytest.fixture
def reader():
    return Caller("rob", "user")


@pytest.fixture
def viewer():
    return Caller("vera", "viewer")


def endpoints():
    """Return (method, path) of all that the API offers."""
    found = app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in found.items() for method in methods]


def some(path):
    """Return a path whose parameters are filled in."""
    return path.replace("{action_id}", "1")


@pytest.mark.parametrize(("method", "path"), endpoints())
def test_nobody_uses_an_endpoint_without_logging_in(sqlite, method, path):
    answer = Caller("nobody", None).call(method, some(path), headers=JSON, content="{}")
    assert answer.status_code == 401


@pytest.mark.parametrize(("method", "path"), endpoints())
def test_who_may_not_read_the_connection_may_do_nothing(sqlite, viewer, method, path):
    answer = viewer.call(method, some(path), headers=JSON, content="{}")
    assert answer.status_code == 403
    assert "claim_dispatch_default" in answer.json()["detail"]


@pytest.mark.parametrize(("method", "path"), endpoints())
def test_who_may_read_the_connection_may_read_and_no_more(sqlite, reader, method, path):
    answer = reader.call(method, some(path), headers=JSON, content="{}")
    assert (answer.status_code == 403) == (method != "GET")


def test_every_endpoint_that_changes_something_is_a_post(sqlite):
    assert {method for method, _ in endpoints()} == {"GET", "POST"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({}, 415),
        ({**JSON, "Sec-Fetch-Site": "cross-site"}, 403),
        ({**JSON, "Sec-Fetch-Site": "same-site"}, 403),
        ({**JSON, "Origin": "https://elsewhere.example"}, 403),
        ({**JSON, "Origin": "null"}, 403),
        ({**JSON, "Origin": "http://airflow"}, 200),
        ({**JSON, "Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_what_a_page_of_another_site_could_send_is_refused(sqlite, admin, headers, status):
    answer = admin.call("POST", "pause", headers=headers, content=BODY)
    assert answer.status_code == status


def test_the_session_says_who_looks_at_which_log(sqlite, admin, reader):
    assert admin.get("session").json() == {
        "user": "ada",
        "may_decide": True,
        "conn_id": "claim_dispatch_default",
        "table": "action_logs",
        "deployment": "airflow",
    }
    assert reader.get("session").json()["may_decide"] is False


def test_answers_are_kept_in_no_cache_and_scripts_are_asked_for_again(sqlite, admin):
    assert admin.get("actions").headers["cache-control"] == "no-store"
    script = admin.call("GET", "/static/main.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["cache-control"] == "no-cache"


def test_no_script_leads_out_of_the_folder(sqlite, admin):
    for path in ("/static/../access.py", "/static/%2e%2e/access.py", "/static/..%2faccess.py"):
        assert admin.call("GET", path).status_code == 404


def test_a_missing_connection_is_named_with_what_to_do(admin):
    answer = admin.get("overview")
    assert answer.status_code == 503
    assert "airflow connections add" in answer.json()["detail"]


def test_a_database_without_tables_is_named_with_what_to_do(tmp_path, monkeypatch, admin):
    monkeypatch.setenv("AIRFLOW_CONN_CLAIM_DISPATCH_DEFAULT", f"sqlite:///{tmp_path}/empty.db")
    answer = admin.get("overview")
    assert answer.status_code == 503
    assert "claim-dispatch db migrate" in answer.json()["detail"]


def test_airflow_finds_the_plugin_by_its_entry_point():
    from airflow.plugins_manager import _get_plugins

    plugins, errors = _get_plugins()
    assert errors == {}
    assert [p.name for p in plugins if isinstance(p, ClaimDispatchPlugin)] == ["claim_dispatch"]


def test_the_plugin_costs_next_to_nothing_until_somebody_asks():
    code = (
        "import airflow.plugins_manager, sys; import airflow_claim_dispatch.ui.plugin;"
        " print([m for m in ('fastapi', 'sqlalchemy.orm.session') if m in sys.modules])"
    )
    before = f"import airflow.plugins_manager, sys; {code.rpartition(';')[2]}"
    run = lambda text: subprocess.check_output([sys.executable, "-c", text], text=True)  # noqa: E731
    assert run(code) == run(before)


@pytest.mark.parametrize("base", ["http://host", "http://host/", "", "http://host/team/airflow/"])
def test_the_script_is_found_wherever_airflow_is_mounted(monkeypatch, base):
    from airflow_claim_dispatch.ui import plugin

    monkeypatch.setattr(plugin.conf, "get", lambda *_, **__: base)
    assert plugin.base_path() == ("/team/airflow" if "team" in base else "")
    assert PREFIX == "/claim-dispatch"
