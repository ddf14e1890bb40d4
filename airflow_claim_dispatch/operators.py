"""The two tasks: one claims, the mapped ones run what was claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, get_args

from airflow.sdk import BaseOperator

from airflow_claim_dispatch import settings
from airflow_claim_dispatch.core.errors import InvalidSetting
from airflow_claim_dispatch.core.processor import Processor, Processors

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    from airflow_claim_dispatch.storage.claiming import Row
    from airflow_claim_dispatch.worker.batch import BatchRun
    from airflow_claim_dispatch.worker.keeper import Tally

FailTaskOn: TypeAlias = Literal["dead", "any", "never"]

#: The claim is idempotent, so that a retry of it is safe; it should come well within the lease.
_CLAIM_RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=10)}


class Batch(TypedDict):
    """What one mapped task gets. Payloads stay in the database."""

    token: str
    ids: list[int]
    label: str


class ClaimDispatchOperator(BaseOperator):
    """Claim due actions and hand them out in batches; ``dispatch()`` adds the tasks that run them.

    A run of this task that Airflow repeats gets what is left of its first claim, never fresh rows.

    :param processors: they say which types are claimed.
    :param limit: actions to claim at most; by default ``[claim_dispatch] default_limit``.
    :param batch_size: actions that share a mapped task while there are few.
    :param max_batches: mapped tasks at most; with more actions the batches grow.
    :param lease: for how long the claim holds until its batches are taken; by default
        ``[claim_dispatch] lease``.
    :param claim_dispatch_conn_id: by default ``[claim_dispatch] conn_id``.
    :param table: by default ``[claim_dispatch] table``.
    """

    template_fields: Sequence[str] = ("limit", "claim_dispatch_conn_id", "table")
    ui_color = "#d5e8d4"

    def __init__(
        self,
        *,
        processors: Iterable[Processor] | Processor,
        limit: int | None = None,
        batch_size: int = 100,
        max_batches: int = 10,
        lease: timedelta | None = None,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**_CLAIM_RETRIES | kwargs)
        self.processors = Processors(processors)
        self.limit = limit
        self.batch_size = batch_size
        self.max_batches = max_batches
        self.lease = lease
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table

    def dispatch(self, **task_arguments: Any) -> MappedOperator:
        """Add the mapped tasks that run what this task claims, and return them.

        ``task_arguments`` are those of ``RunActionsOperator`` and of any task (``pool``, …).
        """
        defaults = {
            "task_id": "run",
            "map_index_template": "{{ task.batch['label'] }}",
            # The log retries actions by itself.
            "retries": 0,
            "lease": self.lease,
            "claim_dispatch_conn_id": self.claim_dispatch_conn_id,
            "table": self.table,
        }
        mapped = RunActionsOperator.partial(processors=self.processors, **defaults | task_arguments)
        return mapped.expand(batch=self.output)

    def execute(self, context: Context) -> list[Batch]:
        """Claim, and return the batches."""
        from airflow_claim_dispatch.connections import using_log
        from airflow_claim_dispatch.tasks import owner_of, served_by

        limit, lease, ti = self._checked_limit(), seconds_of(self.lease), context["ti"]
        with using_log(self.claim_dispatch_conn_id, self.table) as action_log:
            pending = action_log.pending_types() if self.processors.prefixes else ()
            types = self.processors.among(pending)
            # Before the claim, for it keeps to the limits that the log knows.
            rivals = action_log.serve(types, served_by(ti), self.processors.flows(types))
            claim = action_log.claim(types, self._startable(limit, lease), lease, owner_of(ti))
            batches = self._pack(claim.token, claim.rows)
            self._say(types, len(claim.rows), len(batches), rivals)
        ti.xcom_push(
            key="report",
            value={"claimed": len(claim.rows), "dispatched": len(claim.rows), "failed": 0},
        )
        return batches

    def _checked_limit(self) -> int:
        """Everything that would fail after the claim is refused before it."""
        from airflow.sdk import conf

        limit = settings.get_int("default_limit") if self.limit is None else _whole(self.limit)
        numbers = {"limit": limit, "batch_size": self.batch_size, "max_batches": self.max_batches}
        for name, number in numbers.items():
            if number < 1:
                raise InvalidSetting(f"{name} must be at least 1, not {number}")
        longest = conf.getint("core", "max_map_length", fallback=1024)
        if self.max_batches > longest:
            raise InvalidSetting(
                f"max_batches is {self.max_batches}, but Airflow maps at most {longest} tasks"
                " ([core] max_map_length); nothing was claimed. Choose fewer and larger batches"
            )
        return limit

    def _startable(self, limit: int, lease: float) -> int:
        """Return how many to claim: what would wait in its batch for long is left to others."""
        startable = self.processors.startable(lease, self.max_batches)
        if startable is None or startable >= limit:
            return limit
        self.log.info(
            "Claiming at most %d instead of %d: no more start within a third of the lease.",
            startable, limit,
        )  # fmt: skip
        return startable

    def _pack(self, token: str, rows: list[Row]) -> list[Batch]:
        # -(-a // b) rounds up.
        count = min(-(-len(rows) // self.batch_size), self.max_batches)
        size = -(-len(rows) // count) if count else 0
        slices = [rows[start : start + size] for start in range(0, len(rows), size or 1)]
        return [
            Batch(token=token, ids=[row.id for row in part], label=_label(part)) for part in slices
        ]

    def _say(
        self, types: Sequence[str], claimed: int, batches: int, rivals: Mapping[str, str]
    ) -> None:
        self.log.info(
            "Claimed %d actions of %s into %d batches.", claimed, ", ".join(types), batches
        )
        for type_, other in rivals.items():
            self.log.warning(
                "%s is also served by %s: both get a part of its actions. Keep one of them.",
                type_, other,
            )  # fmt: skip


class RunActionsOperator(BaseOperator):
    """Take one claimed batch, run its actions in this process, and settle each by itself.

    :param batch: from ``ClaimDispatchOperator``.
    :param fail_task_on: fail this task, after everything is settled, if an action is ``dead``, if
        ``any`` failed, or ``never``.
    :param on_dead: notifiers or callables that get the context, with ``dead_actions`` (id: reason)
        in it, if an action died.
    :param lease: for how long an action is safe from others without a sign of life.
    """

    template_fields: Sequence[str] = ("claim_dispatch_conn_id", "table")
    ui_color = "#dae8fc"

    def __init__(
        self,
        *,
        processors: Processors,
        batch: Batch,
        fail_task_on: FailTaskOn = "dead",
        on_dead: Callable[[Any], object] | Iterable[Callable[[Any], object]] = (),
        lease: timedelta | None = None,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if fail_task_on not in get_args(FailTaskOn):
            raise InvalidSetting(
                f"fail_task_on must be 'dead', 'any' or 'never', not {fail_task_on!r}"
            )
        self.processors = processors
        self.batch = batch
        self.fail_task_on = fail_task_on
        self.on_dead = [on_dead] if callable(on_dead) else list(on_dead)
        self.lease = lease
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table
        self._run: BatchRun | None = None

    def execute(self, context: Context) -> dict[str, int]:
        """Run the batch and return what became of its actions."""
        from airflow_claim_dispatch.connections import using_log
        from airflow_claim_dispatch.tasks import airflow_execution, owner_of
        from airflow_claim_dispatch.worker.batch import BatchRun

        lease, owner = seconds_of(self.lease), owner_of(context["ti"])
        token, ids = self.batch["token"], self.batch["ids"]
        with using_log(self.claim_dispatch_conn_id, self.table) as action_log:
            self._run = BatchRun(action_log, self.processors, owner, lease, airflow_execution())
            tally = self._run.run(lambda: action_log.take(token, ids, lease, owner))
        self.log.info(
            "Settled: %s", tally.as_dict() or "nothing; others hold or settled this batch"
        )
        self._tell(tally, context)
        return tally.as_dict()

    def on_kill(self) -> None:
        """Write what has ended and release what has not started, before the process is killed."""
        if self._run is not None:
            self._run.stop()

    def _tell(self, tally: Tally, context: Context) -> None:
        from airflow.sdk.exceptions import AirflowFailException

        if tally.dead:
            context["dead_actions"] = tally.dead  # type: ignore[typeddict-unknown-key]
            for notify in self.on_dead:
                self._notify(notify, context)
        dead, retried = tally.counts["dead"], tally.counts["retried"]
        failed = {"dead": dead, "any": dead + retried, "never": 0}[self.fail_task_on]
        if failed:
            # A retry of this task would find nothing to do: the actions are settled.
            raise AirflowFailException(
                f"{dead} actions died and {retried} will be retried, all of them are settled."
                f" Dead: {_first_lines(tally.dead)}"
            )

    def _notify(self, notify: Callable[[Any], object], context: Context) -> None:
        try:
            notify(context)
        except Exception:
            self.log.exception(
                "A notifier of on_dead failed; the actions are settled all the same."
            )


def _whole(number: object) -> int:
    """Return the number that a template may have made text of."""
    try:
        return int(number)  # type: ignore[call-overload,no-any-return]
    except (TypeError, ValueError):
        raise InvalidSetting(f"limit must be a whole number, not {number!r}") from None


def seconds_of(lease: timedelta | None) -> float:
    """Return a lease in seconds, that of the settings if it is None.

    Raises InvalidSetting if it is shorter than a second.
    """
    seconds = settings.get_int("lease") if lease is None else lease.total_seconds()
    if seconds < 1:
        raise InvalidSetting(f"lease must be at least one second, not {lease}")
    return float(seconds)


def _label(rows: list[Row]) -> str:
    """Name a mapped task by what it holds."""
    types = sorted({row.type for row in rows})
    ids = f"{rows[0].id}" if len(rows) == 1 else f"{rows[0].id}…{rows[-1].id} ({len(rows)})"
    return f"{types[0]}{f' +{len(types) - 1}' if len(types) > 1 else ''} {ids}"


def _first_lines(dead: dict[int, str]) -> str:
    shown = [f"{id_}: {(reason or '?').splitlines()[0]}" for id_, reason in list(dead.items())[:5]]
    return "; ".join(shown) or "none"
