"""Any Airflow operator as the job: one mapped task per action, and one that settles by states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_claim_dispatch import operator_jobs
from airflow_claim_dispatch.core.errors import InvalidProcessor
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.lengths import seconds_of
from airflow_claim_dispatch.operators import Batch, ClaimDispatchOperator
from airflow_claim_dispatch.settling import SettleOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claim_dispatch.core.action import Action
    from airflow_claim_dispatch.core.retry import RetryPolicy
    from airflow_claim_dispatch.core.settlement import Settlement
    from airflow_claim_dispatch.operator_jobs import OperatorJob
    from airflow_claim_dispatch.worker.job import JobRun

Perform = Callable[[BaseOperator], Any]


class JobOperator(BaseOperator):
    """Take one claimed action, and run an operator that is made for it.

    The state of this task says how the action ended: a person who marks it a success acknowledges
    the action, who marks it failed fails it, and who clears it runs it again.

    :param job: the operator, without what the action adds.
    :param batch: from ``ClaimDispatchOperator``, with one action.
    :param lease: for how long the action is safe from others without a sign of life.
    """

    template_fields: Sequence[str] = ("claim_dispatch_conn_id", "table")

    def __init__(
        self,
        *,
        processors: Processors,
        job: OperatorJob,
        batch: Batch,
        lease: timedelta | None = None,
        claim_dispatch_conn_id: str | None = None,
        table: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.processors = processors
        self.job = job
        self.batch = batch
        self.lease = lease
        self.claim_dispatch_conn_id = claim_dispatch_conn_id
        self.table = table
        self._run: JobRun | None = None
        self._work: _Work | None = None

    def execute(self, context: Context) -> Any:
        """Run the operator from its beginning."""
        return self._perform(context, lambda made: operator_jobs.execute(made, context))

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """Go on with an operator that waited for its trigger."""

        def perform(made: BaseOperator) -> Any:
            return operator_jobs.resume(made, next_method, next_kwargs, context)

        return self._perform(context, perform, resumed=True)

    def on_kill(self) -> None:
        """End the operator's work. Who ends it has set this task's state, and that settles."""
        if self._run is not None:
            self._run.abandon()
        if self._work is not None and self._work.operator is not None:
            self._work.operator.on_kill()

    def _perform(self, context: Context, perform: Perform, *, resumed: bool = False) -> Any:
        from airflow_claim_dispatch.connections import using_log
        from airflow_claim_dispatch.tasks import airflow_execution, owner_of
        from airflow_claim_dispatch.worker.job import JobRun

        lease, owner = seconds_of(self.lease), owner_of(context["ti"])
        token, (action_id,) = self.batch["token"], self.batch["ids"]
        work = self._work = _Work(
            lambda arguments: self.job.make(self, context, arguments), perform
        )
        with using_log(self.claim_dispatch_conn_id, self.table) as action_log:
            self._run = JobRun(action_log, lease, airflow_execution(operators=True))
            ending = self._run.run(
                lambda: action_log.take_job(token, action_id, lease, owner),
                lambda type_: work.of(self.processors.find(type_)),
                resumed=resumed,
            )
        return _shown(ending, work)


class _Work(Processor):
    """A processor whose work an operator does; remembers what came of it."""

    def __init__(self, make: Callable[[Mapping[str, Any]], BaseOperator], perform: Perform) -> None:
        self._make = make
        self._perform = perform
        self._processor: Processor | None = None
        self.operator: BaseOperator | None = None
        self.result: Any = None
        self.error: BaseException | None = None

    def of(self, processor: Processor | None) -> Processor | None:
        """Return this, as what ``processor`` asks for."""
        self._processor = processor
        self.delete_on_success = processor is not None and processor.delete_on_success
        return processor and self

    def to_job(self, action: Action) -> Mapping[str, Any]:
        assert self._processor is not None  # noqa: S101  of() comes first
        try:
            return self._processor.operator_arguments(action)
        except BaseException as error:
            self.error = error
            raise

    def run(self, **job: Any) -> None:
        try:
            self.operator = self._make(job)
            self.result = self._perform(self.operator)
        except BaseException as error:
            self.error = error
            raise

    def retry_policy(self, max_attempts: int = 1) -> RetryPolicy:
        assert self._processor is not None  # noqa: S101  of() comes first
        return self._processor.retry_policy(max_attempts)


def _shown(ending: Settlement | None, work: _Work) -> Any:
    """Return the operator's result, or raise what gives the task the state of its action."""
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowSkipException,
    )

    if ending is None:
        raise AirflowSkipException("The claim is lost: others hold or have settled this action.")
    if ending.succeeded:
        return work.result
    reason = ending.error or "no reason was given"
    if ending.outcome == "dead":
        # No retry of this task would find anything to do.
        raise AirflowFailException(reason) from work.error
    if ending.outcome is None and ending.failed:
        if isinstance(work.error, Exception):
            raise work.error
        raise AirflowException(reason) from work.error
    raise AirflowSkipException(reason)


def use(
    claim: ClaimDispatchOperator,
    operator: Any,
    settle_arguments: Mapping[str, Any],
    task_arguments: Mapping[str, Any],
) -> SettleOperator:
    """Add the mapped tasks that run ``operator`` for what was claimed, and the settling one."""
    from airflow.sdk import XComArg, conf

    job, of_operator = operator_jobs.job_of(operator)
    if odd := [processor.name for processor in claim.processors if processor.transactional]:
        raise InvalidProcessor(
            f"{odd[0]} wants the settling connection, but an operator does its work"
        )
    for processor in claim.processors:
        processor.uses_operator = True
    arguments = of_operator | dict(task_arguments)
    for name in ("dag", "task_group", "default_args"):
        arguments.pop(name, None)
    if arguments.get("retries") == conf.getint("core", "default_task_retries", fallback=0):
        arguments["retries"] = 0  # the log retries actions by itself
    if arguments.get("map_index_template") is None:
        arguments["map_index_template"] = "{{ task.batch['label'] }}"
    # It carries the group in which partial() was called.
    arguments["task_id"] = arguments["task_id"].rpartition(".")[2]
    access = {
        "processors": claim.processors,
        "lease": claim.lease,
        "claim_dispatch_conn_id": claim.claim_dispatch_conn_id,
        "table": claim.table,
    }
    mapped = (
        _shown_as(job.operator_class)
        .partial(job=job, **access | arguments)
        .expand(batch=claim.output)
    )
    for value in job.arguments.values():
        XComArg.apply_upstream_relationship(mapped, value)
    settle = SettleOperator(
        task_id="settle", run_task_id=mapped.task_id, max_lease=claim.max_lease,
        **access | dict(settle_arguments),
    )  # fmt: skip
    mapped >> settle
    claim.reconciles = mapped.task_id
    return settle


def _shown_as(operator_class: type[BaseOperator]) -> type[JobOperator]:
    """Return our operator as the other one looks in the UI: name, colours and links."""
    name = getattr(operator_class, "custom_operator_name", operator_class.__name__)
    looks = ("ui_color", "ui_fgcolor", "operator_extra_links")
    attributes = {look: getattr(operator_class, look) for look in looks}
    return type(
        JobOperator.__name__, (JobOperator,),
        {"__module__": __name__, "__doc__": JobOperator.__doc__, "custom_operator_name": name}
        | attributes,
    )  # fmt: skip
