"""What became of the sign-ups, asked of the database and of the mail server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Engine, text

from demo.signups import SignUp, expected_counts

if TYPE_CHECKING:
    from demo.mail import MailServer

_STATES = text("""
    SELECT CASE WHEN outcome IS NOT NULL THEN outcome
                WHEN claim_token IS NOT NULL THEN 'claimed'
                WHEN visible_at > statement_timestamp() THEN 'retrying'
                WHEN end_at > statement_timestamp() THEN 'scheduled'
                ELSE 'due' END AS state, count(*)
    FROM action_logs WHERE type = 'email.welcome' GROUP BY 1
""")
_ENDINGS = text("""
    SELECT payload ->> 'user_email', coalesce(outcome, 'pending'), fail_count
    FROM action_logs WHERE type = 'email.welcome'
""")
_LAG = text("""
    SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (
        ORDER BY extract(epoch FROM processed_at - end_at)::float8)
    FROM action_logs WHERE type = 'email.welcome' AND outcome = 'processed'
""")

OPEN = ("scheduled", "due", "claimed", "retrying")
SETTLED = ("processed", "skipped", "cancelled", "dead")


def states(engine: Engine) -> Counter[str]:
    """Return how many actions are in which state."""
    with engine.connect() as connection:
        return Counter({row.state: row.count for row in connection.execute(_STATES)})


@dataclass
class Tally:
    """The end of the story.

    :param endings: per address, its rows' outcomes and failures.
    :param lag: seconds from ``end_at`` to ``processed_at``, median and 99th percentile.
    :param mails: mails per address, as the mail server counted them.
    :param receipts: what the publishing tasks were told.
    """

    endings: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    lag: tuple[float, float] = (0.0, 0.0)
    mails: Counter[str] = field(default_factory=Counter)
    receipts: Counter[str] = field(default_factory=Counter)

    def counts(self) -> dict[str, int]:
        """Return the numbers that ``expected_counts`` foretells."""
        rows = [row for rows in self.endings.values() for row in rows]
        outcomes = Counter(outcome for outcome, _ in rows)
        return {
            "published": len(rows),
            "duplicates": self.receipts["duplicate"],
            "gated": self.receipts["skipped"],
            "cancelled": outcomes["cancelled"],
            "skipped": outcomes["skipped"],
            "processed": outcomes["processed"],
            "retried": sum(outcome == "processed" and failures > 0 for outcome, failures in rows),
            "dead": outcomes["dead"],
            "mails": self.mails.total(),
        }

    def differences(self, users: list[SignUp]) -> Iterator[str]:
        """Yield a line for everything that is not as it was published."""
        counted = self.counts()
        for name, number in expected_counts(users).items():
            if counted[name] != number:
                yield f"{name}: {counted[name]} instead of {number}"
        addresses = {user.email: user for user in users if user.email}
        for email, user in addresses.items():
            yield from self._strange(user, self.endings.get(email, []))
        for email in (self.endings.keys() | self.mails.keys()) - addresses.keys():
            yield f"{email or 'no address'}: nobody signed up with it"

    def _strange(self, user: SignUp, rows: list[tuple[str, int]]) -> Iterator[str]:
        outcomes = [outcome for outcome, _ in rows]
        if outcomes != [user.outcome]:
            yield f"{user.email} ({user.story}): {outcomes} instead of [{user.outcome!r}]"
        mails = 1 if user.outcome == "processed" else 0
        if self.mails[user.email] != mails:
            yield f"{user.email} ({user.story}): {self.mails[user.email]} mails instead of {mails}"


def read(engine: Engine, mail: MailServer, receipts: Mapping[str, int]) -> Tally:
    """Return what became of everything."""
    tally = Tally(mails=Counter(mail.accepted), receipts=Counter(receipts))
    with engine.connect() as connection:
        for email, outcome, failures in connection.execute(_ENDINGS):
            tally.endings.setdefault(email, []).append((outcome, failures))
        lag = connection.execute(_LAG).scalar()
    tally.lag = (lag[0], lag[1]) if lag else (0.0, 0.0)
    return tally
