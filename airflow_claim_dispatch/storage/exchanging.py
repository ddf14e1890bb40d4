"""The exchange: write results, end the leases of what has run, and claim, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from airflow_claim_dispatch.core.settlement import Settlement
from airflow_claim_dispatch.storage import leases, settling
from airflow_claim_dispatch.storage.claiming import Taken
from airflow_claim_dispatch.storage.transaction import Transaction


def exchange(
    tx: Transaction,
    results: Mapping[str, Sequence[Settlement]],
    ended: Collection[str],
    claim: Callable[[Transaction], Taken],
) -> tuple[dict[str, set[int]], Taken]:
    """Write ``results`` by token, claim, end the leases ``ended``; return the lost, by token."""
    writing = {token: settling.begin(tx, token, each) for token, each in results.items()}
    taken = claim(tx)
    missing = {token: written() for token, written in writing.items()}
    losses = lost(tx, results, missing)
    for token in ended:
        leases.close(tx, token, settling.freed(results.get(token, ()), losses.get(token, set())))
    return losses, taken


def begin(
    tx: Transaction,
    results: Mapping[str, Sequence[Settlement]],
    ended: Collection[str],
    claim: Callable[[Transaction], Callable[[], Taken | None]],
) -> Callable[[], tuple[dict[str, set[int]], Taken | None]]:
    """Send all of an exchange; return what waits for the missing, by token, and for the claim."""
    writing = {
        token: settling.begin(tx, token, each, last=token in ended)
        for token, each in results.items()
    }
    for token in set(ended) - writing.keys():
        leases.close(tx, token)
    taken = claim(tx)
    return lambda: ({token: written() for token, written in writing.items()}, taken())


def lost(
    tx: Transaction,
    results: Mapping[str, Sequence[Settlement]],
    missing: Mapping[str, Collection[int]],
) -> dict[str, set[int]]:
    """Return which of the ``missing`` were lost, by token; see ``settling.settle``."""
    return {
        token: settling.lost_among(tx, token, results[token], ids) for token, ids in missing.items()
    }
