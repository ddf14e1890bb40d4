"""Event-driven: Airflow wakes this DAG when a welcome mail is due."""

from __future__ import annotations

import os
import smtplib
from datetime import timedelta
from email.message import EmailMessage

from airflow.sdk import dag

from airflow_claim_dispatch import Action, ActionsDue, Reject, processor


@processor("email.welcome", max_attempts=4, retry_delay=timedelta(seconds=2))
def send_welcome_email(action: Action) -> None:
    """Send one mail; a server that is busy is tried again, an address that is refused is not."""
    mail = EmailMessage()
    mail["From"], mail["To"] = "hello@example.org", action.payload["user_email"]
    mail["Subject"] = "Welcome"
    mail.set_content(f"Hello {action.payload['user_name']}, good to have you.")
    try:
        with smtplib.SMTP(os.environ["SMTP_HOST"], int(os.environ["SMTP_PORT"])) as server:
            server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as refused:
        ((code, text),) = refused.recipients.values()
        if 500 <= code < 600:  # noqa: PLR2004  permanent, by RFC 5321 section 4.2.1
            raise Reject(f"{code} {text.decode()}") from refused
        raise


@dag(
    schedule=ActionsDue(send_welcome_email),
    max_active_runs=2,
    catchup=False,
    tags=["claim-dispatch"],
)
def welcome_emails() -> None:
    """### Welcome mails

    Wakes while `email.welcome` actions are due, claims up to 1,000 of them and sends each mail in
    one of at most ten mapped tasks. Failures are retried by the log, with backoff.
    """
    send_welcome_email(limit=1000)


welcome_emails()
