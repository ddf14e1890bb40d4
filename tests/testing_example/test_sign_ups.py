"""How an application tests what it publishes and how it is processed."""

from datetime import timedelta

import pytest
from sign_ups import outbox, send_welcome_email, sign_up

from airflow_claim_dispatch import Publisher, Reject
from airflow_claim_dispatch.testing import (
    assert_published,
    fake_action,
    published,
    run_due,
    temporary_log,
)


def test_a_mail_is_sent_five_minutes_after_sign_up():
    with temporary_log() as log:
        sign_up("ada@example.org", Publisher(log.engine, clock=log.clock))
        assert_published(log, "email.welcome", payload={"user_email": "ada@example.org"})

        assert run_due(log, send_welcome_email)["claimed"] == 0
        log.clock.advance(timedelta(minutes=5))
        assert run_due(log, send_welcome_email)["processed"] == 1
        assert outbox == ["ada@example.org"]


def test_signing_up_twice_is_one_mail():
    with temporary_log() as log:
        publisher = Publisher(log.engine, clock=log.clock)
        sign_up("ada@example.org", publisher)
        sign_up("ada@example.org", publisher)
        assert_published(log, "email.welcome", idempotency="welcome:ada@example.org", times=1)


def test_a_user_without_an_address_gets_no_mail():
    with temporary_log() as log:
        sign_up("", Publisher(log.engine, clock=log.clock))
        assert published(log) == []


def test_an_address_that_is_none_is_never_tried_again():
    with pytest.raises(Reject):
        send_welcome_email.function(fake_action("email.welcome", {"user_email": "ada"}))
    with temporary_log() as log:
        sign_up("ada", Publisher(log.engine, clock=log.clock))
        log.clock.advance(timedelta(minutes=5))
        assert run_due(log, send_welcome_email)["dead"] == 1
        assert published(log)[0].outcome == "dead"


def test_an_assertion_that_fails_says_what_there_is():
    with temporary_log() as log:
        sign_up("ada@example.org", Publisher(log.engine, clock=log.clock))
        with pytest.raises(AssertionError, match=r"expected 2 'email.welcome' .* found 1 among"):
            assert_published(log, "email.welcome", times=2)
        with pytest.raises(AssertionError, match=r"expected at least one 'email.goodbye'"):
            assert_published(log, "email.goodbye")
