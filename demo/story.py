"""The story of the demo: everybody who signs up gets one welcome mail, whatever happens."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from demo import tally
from demo.mail import MailServer
from demo.rest import RestError
from demo.signups import SignUp, expected_counts, sign_ups
from demo.stack import Stack, running

if TYPE_CHECKING:
    from demo.screen import Screen
    from demo.tally import Tally

PUBLISHING = "sign_up"
DISPATCHING = "welcome_emails"
_PATIENCE = 180.0
_SUMMARY = ("published", "duplicates", "skipped", "processed", "dead", "mails")


def tell(screen: Screen) -> bool:
    """Run the demo, and say whether everything went as it was published."""
    users = sign_ups()
    with running(mail_server(users), screen.say) as stack:
        end = play(stack, users, screen)
    screen.table(end, expected_counts(users))
    differences = list(end.differences(users))
    screen.print(_verdict(end, differences))
    return not differences


def mail_server(users: list[SignUp]) -> MailServer:
    """Return a mail server that treats the users as their stories say."""
    return MailServer(
        refuse_first={user.email: user.refusals for user in users if user.refusals},
        refuse_always=[user.email for user in users if user.story == "unknown"],
    )


def play(stack: Stack, users: list[SignUp], screen: Screen) -> Tally:
    """Publish, wait until everything is settled, and return what became of it.

    Raises RestError or ProcessError if Airflow gives up, TimeoutError if it takes too long.
    """
    run_id = publish(stack, users)
    screen.say(f"{PUBLISHING} publishes {len(users)} sign-ups, {DISPATCHING} runs what is due")
    with screen.progress():
        _wait(stack, run_id, expected_counts(users)["published"], screen)
    return tally.read(stack.engine, stack.mail, _receipts(stack, run_id))


def publish(stack: Stack, users: list[SignUp]) -> str:
    """Start both DAGs, the publishing one with a run for ``users``, and return the run's id."""
    rest = stack.airflow.rest
    for dag_id in (DISPATCHING, PUBLISHING):
        rest.wait_for_dag(dag_id)
        rest.pause(dag_id, paused=False)
    return rest.trigger(PUBLISHING, {"sign_ups": [user.as_conf() for user in users]})


def _wait(stack: Stack, run_id: str, total: int, screen: Screen) -> None:
    deadline = time.monotonic() + _PATIENCE
    is_published = False
    while True:
        # In this order: what was published after the states were read must not be missed.
        is_published = is_published or _is_published(stack, run_id)
        states = tally.states(stack.engine)
        screen.show(states, stack.mail.accepted.total(), total)
        if is_published and not any(states[state] for state in tally.OPEN):
            return
        stack.airflow.processes.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {_PATIENCE:.0f} s there is still {dict(states)}")
        time.sleep(0.5)


def _is_published(stack: Stack, run_id: str) -> bool:
    state = stack.airflow.rest.run_state(PUBLISHING, run_id)
    if state == "failed":
        raise RestError(f"the run of {PUBLISHING} failed")
    return state == "success"


def _receipts(stack: Stack, run_id: str) -> Counter[str]:
    receipts: Counter[str] = Counter()
    for returned in stack.airflow.rest.returned(PUBLISHING, run_id, "publish"):
        receipts.update(returned)
    return receipts


def _verdict(end: Tally, differences: list[str]) -> str:
    if differences:
        return "\n".join(["DEMO FAILED", *(f"  {line}" for line in differences[:40])])
    counts = end.counts()
    return "DEMO OK " + " ".join(f"{name}={counts[name]}" for name in _SUMMARY)
