"""An application and its processor."""

from datetime import timedelta

from airflow_claim_dispatch import Action, Publisher, Reject, processor

outbox: list[str] = []


def sign_up(email: str, publisher: Publisher) -> None:
    """Store the user, and leave the welcome mail for later."""
    publisher.quick(
        "email.welcome",
        timedelta(minutes=5),
        {"user_email": email},
        idempotency=f"welcome:{email}",
        when=lambda payload: payload["user_email"] != "",
    )


@processor("email.welcome", max_attempts=3, retry_delay=timedelta(minutes=1))
def send_welcome_email(action: Action) -> None:
    """Send one mail."""
    if "@" not in action.payload["user_email"]:
        raise Reject("not an address")
    outbox.append(action.payload["user_email"])
