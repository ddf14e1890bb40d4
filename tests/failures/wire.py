"""A wire to a server that loses one answer, where a test wants it to: after a COMMIT, say."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field

_BLOCK = 1 << 16


@dataclass
class Loss:
    """The answer to the ``COMMIT`` of a transaction in which ``statement`` was sent."""

    statement: bytes
    happened: threading.Event = field(default_factory=threading.Event)


class Wire:
    """Passes connections on to a port of this machine; a context manager.

    :param target: the port that answers.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._loss: Loss | None = None
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Wire:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()

    def lose_answer(self, statement: bytes) -> Loss:
        """Cut the next transaction that sends ``statement``, once it has been committed."""
        self._loss = Loss(statement)
        return self._loss

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    client.close()
                else:
                    Link(self, client, server).start()

    def concerns(self, block: bytes) -> Loss | None:
        """Return the loss that is to happen to the transaction which sends ``block``."""
        loss = self._loss
        if loss is None or loss.statement not in block:
            return None
        self._loss = None
        return loss


class Link:
    """One connection: two threads, one in each direction."""

    def __init__(self, wire: Wire, client: socket.socket, server: socket.socket) -> None:
        self._wire, self._client, self._server = wire, client, server
        self._loss: Loss | None = None
        self._committing = False

    def start(self) -> None:
        for flow in (self._requests, self._answers):
            threading.Thread(target=self._pass_on, args=(flow,), daemon=True).start()

    def _pass_on(self, flow) -> None:
        with suppress(OSError):
            flow()
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _requests(self) -> None:
        while block := self._client.recv(_BLOCK):
            self._loss = self._loss or self._wire.concerns(block)
            if self._loss is not None and b"COMMIT" in block:
                self._committing = True
            self._server.sendall(block)

    def _answers(self) -> None:
        while block := self._server.recv(_BLOCK):
            if self._committing and self._loss is not None:
                self._loss.happened.set()
                return
            self._client.sendall(block)
