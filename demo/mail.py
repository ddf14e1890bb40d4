"""A mail server that counts what it accepts, and refuses whom it is told to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller

from demo.ports import free_port

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, Session

_OK = "250 OK"
_TRY_LATER = "451 4.7.1 greylisted, try again later"
_NO_SUCH_USER = "550 5.1.1 no such user"


class MailServer:
    """An SMTP server on a free port of 127.0.0.1; a context manager.

    :param refuse_first: how often the server answers 451 (try later) to an address.
    :param refuse_always: addresses that get 550 (no such user) each time.
    """

    def __init__(
        self, refuse_first: Mapping[str, int] | None = None, refuse_always: Iterable[str] = ()
    ) -> None:
        self.accepted: Counter[str] = Counter()
        """Mails per address."""
        self.refused: Counter[str] = Counter()
        """Refusals per address."""
        self.refuse_first = dict(refuse_first or {})
        self.refuse_always = set(refuse_always)
        self.port = free_port()
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    def __enter__(self) -> MailServer:
        self._controller.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._controller.stop(no_assert=True)

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self,
        _server: SMTP,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[Any],
    ) -> str:
        """Accept or refuse a recipient."""
        if address in self.refuse_always:
            self.refused[address] += 1
            return _NO_SUCH_USER
        if self.refused[address] < self.refuse_first.get(address, 0):
            self.refused[address] += 1
            return _TRY_LATER
        envelope.rcpt_tos.append(address)
        return _OK

    async def handle_DATA(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Count a mail for each of its recipients."""
        self.accepted.update(envelope.rcpt_tos)
        return _OK
