"""A log with a little of everything, as it might look on a working afternoon."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

from sqlalchemy import text

from airflow_claim_dispatch import ActionLog, Draft, Publisher
from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage.leases import Owner
from airflow_claim_dispatch.storage.states import Filter

WELCOME, EXPIRE, REMIND, REPORT, PARTNER = (
    "email.welcome", "order.expire", "invoice.remind", "report.generate", "partner.call",
)  # fmt: skip
STEP = timedelta(minutes=5)
STEPS = 36

# Rows are dated by the database, whose clock nobody moves.
_PUBLISHED_BEFORE = text(
    "UPDATE action_logs SET created_at = end_at - interval '1 hour' WHERE created_at > end_at"
)

REFUSED = "SMTPRecipientsRefused: 550 no such user\n  mail.py:41 in send"
TIMED_OUT = "TimeoutError: partner.example did not answer"


class Scene:
    """Writes what happened over the last three hours, by a clock of its own.

    :param engine: the engine of a migrated database.
    """

    def __init__(self, engine) -> None:
        self.now = datetime.now(timezone.utc)
        self.moment = self.now
        self.log = ActionLog(engine, clock=lambda: self.moment)
        self.publisher = Publisher(engine)

    @property
    def dead(self) -> Filter:
        """The actions that somebody has to look at."""
        return Filter(states=["dead"], types=[WELCOME])

    def play(self) -> None:
        """Write it all."""
        self.write_history()
        self.write_today()
        self.moment = self.now
        self.log.desk.pause(REMIND, by="grace")
        with self.log.engine.begin() as connection:
            connection.execute(_PUBLISHED_BEFORE)

    def write_history(self) -> None:
        for step in range(STEPS):
            start = self.now - STEP * (STEPS - step - 0.5)
            for type_, number in ((WELCOME, _wave(step, 24)), (EXPIRE, _wave(step + 9, 7))):
                self.run(type_, start, number, dead=1 if (step, type_) in _DEATHS else 0)

    def run(self, type_: str, start: datetime, number: int, dead: int = 0) -> None:
        """Publish ``number`` actions, claim them some seconds later, settle them."""
        drafts = [_draft(type_, start, f"{start:%H%M}-{n}") for n in range(number)]
        self.publisher.publish_many(drafts)
        self.moment = start + timedelta(seconds=3 + number / 10)
        dag = {WELCOME: "welcome_emails", EXPIRE: "expire_orders"}[type_]
        task = f"airflow/{dag}/scheduled__{start:%Y-%m-%dT%H:%M:%S}/run"
        self.log.serve([type_], f"airflow/{dag}/claim")
        taken = self.log.claim_to_run([type_], number, 300.0, Owner(f"{task}/0"))
        self.moment += timedelta(seconds=2)
        ends = [
            Settlement(row.id, "dead", failed=True, error=REFUSED)
            if n < dead
            else Settlement(row.id, "processed")
            for n, row in enumerate(taken.rows)
        ]
        self.log.settle(taken.token, ends, close=True)

    def write_today(self) -> None:
        self.publish(WELCOME, 18, timedelta(minutes=4))
        self.publish(EXPIRE, 41, timedelta(minutes=25))
        self.publish(REMIND, 12, -timedelta(minutes=50))
        self.publish(REPORT, 3, -timedelta(hours=2))
        self.publish(PARTNER, 5, -timedelta(seconds=30))
        self.moment = self.now - timedelta(seconds=20)
        self.log.serve([REMIND, PARTNER], "airflow/dunning/claim")
        held = self.log.claim_to_run([PARTNER], 5, 3600.0, Owner("airflow/dunning/manual/run/0"))
        back_off = [
            Settlement(row.id, None, delay=900.0, failed=True, error=TIMED_OUT)
            for row in held.rows[:2]
        ]
        self.log.settle(held.token, back_off)

    def publish(self, type_: str, number: int, away: timedelta) -> None:
        start, gap = self.now + away, timedelta(seconds=7)
        drafts = [_draft(type_, start + gap * n, f"later-{n}") for n in range(number)]
        self.publisher.publish_many(drafts)


_DEATHS = {(5, WELCOME), (6, WELCOME), (21, WELCOME), (30, EXPIRE)}


def _wave(step: int, most: int) -> int:
    return 1 + round(most * (1 + math.sin(step / 5)) / 2)


def _draft(type_: str, moment: datetime, number: str) -> Draft:
    key = f"{type_}:{number}"
    draft = Draft().type(type_).eligible_at(moment).idempotency(key)
    match type_:
        case "email.welcome":
            return draft.payload({"user_email": f"ada.{number}@example.org", "locale": "en"}).rules(
                [{"ends_with": [{"var": "payload.user_email"}, ".org"]}]
            )
        case "order.expire":
            return draft.payload({"order": 1234567890123456789, "total": "48.20 EUR"})
        case _:
            return draft.payload({"number": number, "customer": 4711})
