"""``@processor``: a function that serves types, and in a DAG makes its tasks when it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_claim_dispatch.core.action import check_type
from airflow_claim_dispatch.core.errors import InvalidProcessor
from airflow_claim_dispatch.core.flow import Rate
from airflow_claim_dispatch.core.processor import Processor

if TYPE_CHECKING:
    from airflow.sdk import TaskGroup
    from airflow.sdk.definitions.mappedoperator import MappedOperator


class FunctionProcessor(Processor):
    """A decorated function; ``function`` is the function itself, for its unit tests."""

    def __init__(self, function: Callable[..., object], types: tuple[str, ...]) -> None:
        self.function = function
        self.types = types
        self.transactional = len(inspect.signature(function).parameters) > 1
        self.__doc__ = function.__doc__

    def run(self, **job: Any) -> object:
        """Call the function with the action, and with the connection if it takes one."""
        return self.function(*job.values())

    @property
    def name(self) -> str:
        """The function's dotted name."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def __call__(self, **arguments: Any) -> TaskGroup:
        """Make the tasks claim → run in the DAG around this call; see ``groups.dispatch``."""
        from airflow_claim_dispatch.groups import dispatch

        return dispatch(self, **{"group_id": self.function.__name__} | arguments)

    def stay(self, stay: timedelta, *, residents: int = 1, **arguments: Any) -> MappedOperator:
        """Make tasks that stay and run what becomes due; see ``residents.stay``."""
        from airflow_claim_dispatch import residents as resident_shape

        defaults = {"task_id": self.function.__name__}
        return resident_shape.stay(self, stay=stay, residents=residents, **defaults | arguments)


def processor(
    *types: str,
    max_attempts: int | None = None,
    retry_delay: timedelta | None = None,
    max_retry_delay: timedelta | None = None,
    give_up_after: timedelta | None = None,
    max_in_flight: int | None = None,
    rate: Rate | None = None,
    priority: int | None = None,
    expected_duration: timedelta | None = None,
    delete_on_success: bool = False,
) -> Callable[[Callable[..., object]], FunctionProcessor]:
    """Make a function of one action the processor of ``types``.

    A function of two arguments, ``(action, connection)``, also gets the SQLAlchemy connection of
    the transaction that acknowledges the action: what it writes there is stored together with the
    acknowledgement or not at all.

    The function returns when the work is done, and raises when it is not. The other arguments are
    the attributes of ``Processor``. Raises InvalidProcessor for a generator, or for a function of
    other arguments; InvalidType for a type that is no type.
    """
    if not types or callable(types[0]):
        raise InvalidProcessor('name at least one type: @processor("email.welcome")')
    options = {
        "max_attempts": max_attempts,
        "retry_delay": retry_delay,
        "max_retry_delay": max_retry_delay,
        "give_up_after": give_up_after,
        "delete_on_success": delete_on_success,
        "max_in_flight": max_in_flight,
        "rate": rate,
        "priority": priority,
        "expected_duration": expected_duration,
    }

    def decorate(function: Callable[..., object]) -> FunctionProcessor:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidProcessor(
                f"{function.__qualname__} is a generator: its body would not run"
            )
        if list(inspect.signature(function).parameters)[1:] not in ([], ["connection"]):
            raise InvalidProcessor(
                f"{function.__qualname__} must take one argument, the action, or two, (action,"
                " connection), to write in the transaction that acknowledges it"
            )
        made = FunctionProcessor(function, tuple(check_type(type_) for type_ in types))
        for name, value in options.items():
            if value is not None:
                setattr(made, name, value)
        made.retry_policy()  # these raise if their numbers are off
        made.flow()
        return made

    return decorate
