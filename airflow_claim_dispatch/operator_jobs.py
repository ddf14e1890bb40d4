"""An operator as a job: what the DAG author has fixed, and what each action adds to it.

Values of an action come from whoever may INSERT, and a template in one of them could read every
secret that its task can. So they never meet the template engine: the author's own arguments are
rendered first, the operator is made of both afterwards, and is not rendered any more.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.definitions.mappedoperator import OperatorPartial

from airflow_claim_dispatch.core.errors import InvalidProcessor
from airflow_claim_dispatch.core.settlement import Reject

if TYPE_CHECKING:
    from airflow.sdk import Context

_OF_EVERY_TASK = frozenset(inspect.signature(BaseOperator.__init__).parameters)

_SHOWN = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class OperatorJob:
    """An operator without the arguments that an action adds.

    :param arguments: the operator's own, as the DAG author wrote them; may hold templates.
    :param function: of a ``@task``: whose arguments the action adds, instead of the operator's.
    """

    operator_class: type[BaseOperator]
    arguments: Mapping[str, Any]
    function: Callable[..., Any] | None = None

    def make(self, task: BaseOperator, context: Context, added: Mapping[str, Any]) -> BaseOperator:
        """Return the operator for one action.

        Raises Reject if it does not take the arguments that were ``added``.
        """
        fixed = self._rendered(task, context)
        if self.function is None:
            self._check(added)
            arguments = fixed | dict(added)
        else:
            own = fixed.pop("op_kwargs", {})
            _refuse(set(added) & set(own), "is already given by the DAG")
            arguments = {
                **fixed,
                "python_callable": self.function,
                "op_args": (),
                "op_kwargs": {**own, **added},
            }
        try:
            operator = self.operator_class(
                task_id=task.task_id, dag=task.dag, **arguments, _airflow_from_mapped=True
            )
        except Exception as error:
            raise Reject(f"{self} does not take these arguments: {error}") from error
        # Some operators render themselves once more when they run.
        object.__setattr__(operator, "render_template", _as_it_is)
        return operator

    def _rendered(self, task: BaseOperator, context: Context) -> dict[str, Any]:
        """Render by the operator's own rules, which need no finished operator."""
        templater = self.operator_class.__new__(self.operator_class)
        object.__setattr__(templater, "_dag", task.dag)
        environment = task.get_template_env()
        accepted = accepted_by(self.operator_class)
        defaults = {n: value for n, value in task.dag.default_args.items() if n in accepted}
        return {
            name: templater.render_template(value, context, environment)
            if name in self.operator_class.template_fields
            else value
            for name, value in (defaults | dict(self.arguments)).items()
        }

    def _check(self, added: Mapping[str, Any]) -> None:
        accepted = accepted_by(self.operator_class)
        _refuse(set(added) & set(self.arguments), "is already given by the DAG")
        _refuse(set(added) & _OF_EVERY_TASK, "is the task's, not the job's")
        _refuse(set(added) - accepted, f"is not known to {self.operator_class.__name__}")

    def __repr__(self) -> str:
        # Airflow stores it with the DAG: the same text at every parse.
        shown = (
            f"{name}={value!r}" if isinstance(value, _SHOWN) else f"{name}=…"
            for name, value in sorted(self.arguments.items())
        )
        what = "" if self.function is None else f"{self.function.__qualname__}: "
        return f"{what}{self.operator_class.__name__}({', '.join(shown)})"


def job_of(operator: Any) -> tuple[OperatorJob, dict[str, Any]]:
    """Return the job of ``SomeOperator.partial(...)`` or a ``@task``, and its task's arguments.

    Raises InvalidProcessor for anything else.
    """
    if isinstance(operator, OperatorPartial):
        # It would warn that it was never expanded; it is, in a task of ours.
        operator._expand_called = True  # noqa: SLF001
        of_task, own = _split(operator.kwargs)
        if operator.params:
            of_task["params"] = operator.params
        return OperatorJob(operator.operator_class, own), of_task
    if getattr(operator, "_airflow_is_task_decorator", False):
        of_task, own = _split(operator.kwargs)
        of_task.setdefault("multiple_outputs", operator.multiple_outputs)
        return OperatorJob(operator.operator_class, own, operator.function), of_task
    raise InvalidProcessor(
        f"using {operator!r}: pass SomeOperator.partial(task_id=…, …), or a @task function"
    )


def accepted_by(operator_class: type[BaseOperator]) -> set[str]:
    """Return the names of an operator's own arguments, those of its parents included."""
    names: set[str] = set()
    for parent in operator_class.__mro__:
        if parent is BaseOperator:
            break
        if "__init__" in vars(parent):
            names |= {
                parameter.name
                for parameter in inspect.signature(parent.__init__).parameters.values()  # type: ignore[misc]
                if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            }
    return names - {"self"}


def execute(operator: BaseOperator, context: Context) -> Any:
    """Run the operator as Airflow runs a task."""
    operator.pre_execute(context)
    result = _as_task(operator, lambda: operator.execute(context))
    operator.post_execute(context, result)
    return result


def resume(
    operator: BaseOperator, method: str, arguments: dict[str, Any] | None, context: Context
) -> Any:
    """Go on with the operator after its trigger has fired."""
    return _as_task(operator, lambda: operator.resume_execution(method, arguments, context))


def _as_task(operator: BaseOperator, work: Callable[[], Any]) -> Any:
    token = ExecutorSafeguard.tracker.set(operator)
    try:
        return work()
    finally:
        ExecutorSafeguard.tracker.reset(token)


def _split(kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    of_task = {name: value for name, value in kwargs.items() if name in _OF_EVERY_TASK}
    own = {name: value for name, value in kwargs.items() if name not in _OF_EVERY_TASK}
    return of_task, own


def _refuse(names: set[str], why: str) -> None:
    if names:
        raise Reject(f"argument {', '.join(map(repr, sorted(names)))} {why}")


def _as_it_is(content: Any, *_: object, **__: object) -> Any:
    return content
