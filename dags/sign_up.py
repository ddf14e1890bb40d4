"""Publishing: a sign-up flow whose tasks leave the welcome mail to the log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_claim_dispatch import ClaimDispatchHook

EXAMPLE = {"number": 1, "user_name": "Ada", "user_email": "ada@example.org", "due_in": 300}


@dag(
    schedule=None,
    catchup=False,
    params={"sign_ups": Param([EXAMPLE], type="array", description="Who signed up")},
    tags=["claim-dispatch"],
)
def sign_up() -> None:
    """### Sign-ups

    Publishes one `email.welcome` action per sign-up, to be sent when it is due. The key makes a
    sign-up that is reported twice count once, the gate leaves out users without an address, and the
    rule is checked again just before the mail is sent. Who leaves before is not written to.
    """

    @task
    def arrivals(params: dict[str, Any] | None = None) -> list[list[dict[str, Any]]]:
        users = (params or {})["sign_ups"]
        return [users[start : start + 100] for start in range(0, len(users), 100)]

    @task
    def publish(users: list[dict[str, Any]]) -> list[str]:
        hook = ClaimDispatchHook()
        return [
            hook.quick(
                "email.welcome",
                timedelta(seconds=user["due_in"]),
                {"user_email": user["user_email"], "user_name": user["user_name"]},
                idempotency=f"welcome:{user['number']}",
                rules=[{"ends_with": [{"var": "payload.user_email"}, ".org"]}],
                when=lambda payload: payload["user_email"] != "",
            ).status
            for user in users
            for _ in range(user.get("times", 1))
        ]

    @task
    def leave(users: list[dict[str, Any]]) -> list[str]:
        hook = ClaimDispatchHook()
        leaving = [user for user in users if user.get("leaves")]
        return [hook.cancel("email.welcome", f"welcome:{u['number']}").status for u in leaving]

    users = arrivals()
    publish.expand(users=users) >> leave.expand(users=users)


sign_up()
