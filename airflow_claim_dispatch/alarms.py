"""What Airflow's own alarms learn when actions fail: a failed task, and a call to notifiers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from airflow_claim_dispatch.core.errors import InvalidSetting

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

FailTaskOn: TypeAlias = Literal["dead", "any", "never"]

Notifiers: TypeAlias = Callable[[Any], object] | Iterable[Callable[[Any], object]]


class Alarm:
    """Fails a task, after everything is settled, if its actions did.

    :param fail_task_on: if an action is ``dead``, if ``any`` failed, or ``never``.
    :param on_dead: notifiers or callables that get the context, with ``dead_actions`` (id: reason)
        in it, if an action died.
    """

    def __init__(self, fail_task_on: FailTaskOn, on_dead: Notifiers) -> None:
        if fail_task_on not in get_args(FailTaskOn):
            raise InvalidSetting(
                f"fail_task_on must be 'dead', 'any' or 'never', not {fail_task_on!r}"
            )
        self.fail_task_on = fail_task_on
        self.on_dead = [on_dead] if callable(on_dead) else list(on_dead)

    def sound(self, context: Context, died: int, retried: int, dead: Mapping[int, str]) -> None:
        """Notify, and raise AirflowFailException if the task has to fail."""
        from airflow.sdk.exceptions import AirflowFailException

        if dead:
            context["dead_actions"] = dead  # type: ignore[typeddict-unknown-key]
            for notify in self.on_dead:
                _notify(notify, context)
        failed = {"dead": died, "any": died + retried, "never": 0}[self.fail_task_on]
        if failed:
            # A retry of this task would find nothing to do: the actions are settled.
            raise AirflowFailException(
                f"{died} actions died and {retried} will be retried, all of them are settled."
                f" Dead: {_first_lines(dead)}"
            )


def _notify(notify: Callable[[Any], object], context: Context) -> None:
    try:
        notify(context)
    except Exception:
        log.exception("A notifier of on_dead failed; the actions are settled all the same.")


def _first_lines(dead: Mapping[int, str]) -> str:
    shown = [f"{id_}: {(reason or '?').splitlines()[0]}" for id_, reason in list(dead.items())[:5]]
    return "; ".join(shown) or "none"
