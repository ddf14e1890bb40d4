"""A TCP proxy that cuts and delays: ``python -m soak.proxy PORT TARGET``, told by its input.

It says ``ready`` once it listens, and ends with its input. Words: ``cut``, and ``delay SECONDS``.
"""

from __future__ import annotations

import asyncio
import sys

_BLOCK = 1 << 16


class Proxy:
    """Connections to one port of this machine, all of which can be cut or held up at once."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    async def connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        try:
            answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, requests}
        self._open |= ends
        flows = [
            asyncio.create_task(self._pass_on(reader, requests)),
            asyncio.create_task(self._pass_on(answers, writer)),
        ]
        await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.transport.abort()
        await asyncio.wait(flows)
        self._open -= ends

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while block := await reader.read(_BLOCK):
                await self._flows.wait()
                writer.write(block)
                await writer.drain()
        except OSError:
            pass

    def cut(self) -> None:
        """Cut all connections, in the middle of whatever they carry."""
        for end in self._open:
            end.transport.abort()

    async def delay(self, seconds: float) -> None:
        """Hold up everything for a while."""
        self._flows.clear()
        await asyncio.sleep(seconds)
        self._flows.set()


async def _main(port: int, target: int) -> None:
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.connect, "127.0.0.1", port)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        word, *rest = line.split()
        if word == "cut":
            proxy.cut()
        else:
            await proxy.delay(float(rest[0]))
    proxy.cut()
    server.close()


if __name__ == "__main__":
    asyncio.run(_main(*map(int, sys.argv[1:])))
