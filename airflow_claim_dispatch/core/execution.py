"""Run one action and say how its claim ends. Nothing that a processor does escapes, but a stop."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeAlias

from airflow_claim_dispatch.core.action import Action
from airflow_claim_dispatch.core.errors import InvalidProcessor, InvalidRule
from airflow_claim_dispatch.core.processor import Processor
from airflow_claim_dispatch.core.retry import DEFAULT_MAX_ATTEMPTS, RetryPolicy
from airflow_claim_dispatch.core.rules import JsonLogic, RuleEvaluator
from airflow_claim_dispatch.core.settlement import (
    MAX_ERROR,
    Reject,
    Retry,
    Settlement,
    Skip,
    Snooze,
    dead,
    processed,
    released,
    skipped,
)

Clock: TypeAlias = Callable[[], datetime]

_NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Exceptions of the surrounding system that mean something to the log.

    :param skip: there is nothing to do.
    :param reject: this can never succeed.
    :param stop: the process has to end; the running action failed, the rest is untouched.
    :param wait: the job goes on elsewhere; its action stays claimed, and the exception passes.
    """

    skip: tuple[type[BaseException], ...] = (Skip,)
    reject: tuple[type[BaseException], ...] = (Reject,)
    stop: tuple[type[BaseException], ...] = (KeyboardInterrupt,)
    wait: tuple[type[BaseException], ...] = ()


class Stopped(BaseException):
    """The surrounding system wants this process to end, while an action ran.

    Derives from BaseException, as the exceptions do that it stands for.
    """

    def __init__(self, settlement: Settlement, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.settlement = settlement
        self.cause = cause


class Execution:
    """Runs actions by the rules of the log: guard, job, outcome.

    :param max_attempts: for processors that do not say.
    """

    def __init__(
        self,
        evaluator: RuleEvaluator | None = None,
        words: Words | None = None,
        max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    ) -> None:
        self._evaluator = evaluator or JsonLogic()
        self._words = words or Words()
        self._max_attempts = max_attempts

    def run(
        self,
        action: Action,
        processor: Processor,
        clock: Clock,
        more: Mapping[str, Any] = _NOTHING_MORE,
    ) -> Settlement:
        """Run ``action`` unless its guard says no; return how the claim ends.

        ``clock`` is asked only where the time matters; ``more`` goes to the processor's ``run``
        beside the job. Raises Stopped if the process has to end.
        """
        if action.fail_count or action.rules or action.expires_at is not None:
            refused = self._guard(action, processor, clock)
            if refused is not None:
                return refused
        return self.resume(action, processor, clock, more)

    def resume(
        self,
        action: Action,
        processor: Processor,
        clock: Clock,
        more: Mapping[str, Any] = _NOTHING_MORE,
    ) -> Settlement:
        """Run ``action``, whose guard has said yes before, like ``run``."""
        try:
            _call(processor, action, more)
        except self._words.wait:
            raise
        except Snooze as snooze:
            return _snoozed(action, snooze, clock())
        except self._words.skip as error:
            return skipped(action.id, _said(error) or "skipped by its processor")
        except self._words.reject as error:
            return dead(action.id, _describe(error))
        except self._words.stop as error:
            failed = _failed(action, self._policy(processor), clock(), error)
            raise Stopped(failed, error) from error
        except BaseException as error:  # noqa: BLE001  sys.exit() in a job ends the job, not its neighbours
            return _failed(action, self._policy(processor), clock(), error)
        return processed(action.id, keep=not processor.delete_on_success)

    def _policy(self, processor: Processor) -> RetryPolicy:
        return processor.retry_policy(self._max_attempts)

    def _guard(self, action: Action, processor: Processor, clock: Clock) -> Settlement | None:
        if action.expires_at is not None and clock() >= action.expires_at:
            return skipped(action.id, f"expired at {action.expires_at.isoformat()}")
        if action.fail_count and action.fail_count >= self._policy(processor).max_attempts:
            # Failures are also counted where no policy is known, when a lease expires.
            return dead(
                action.id,
                f"given up after {action.fail_count} failures; the last one ended its worker",
                failed=False,
            )
        if not action.rules:
            return None
        try:
            rule = self._evaluator.failing(list(action.rules), action.facts(clock()))
        except InvalidRule as error:
            return dead(action.id, str(error))
        return None if rule is None else skipped(action.id, f"rule says no: {rule}")


def _call(processor: Processor, action: Action, more: Mapping[str, Any]) -> None:
    job = processor.to_job(action)
    if type(job) is not dict and not isinstance(job, Mapping):
        raise InvalidProcessor(
            f"{processor.name}.to_job() must return a dict of keyword arguments, not {job!r}"
        )
    result = processor.run(**job, **more) if more else processor.run(**job)
    if result is None:
        return
    if inspect.iscoroutine(result):
        import asyncio

        result = asyncio.run(result)
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise InvalidProcessor(f"{processor.name} is a generator: its body has not run")


def _snoozed(action: Action, snooze: Snooze, now: datetime) -> Settlement:
    moment = snooze.moment
    delay = moment if isinstance(moment, timedelta) else moment - now
    return released(action.id, delay, failed=False, error=_said(snooze))


def _failed(action: Action, policy: RetryPolicy, now: datetime, error: BaseException) -> Settlement:
    after = error.after if isinstance(error, Retry) else None
    return policy.failure(
        action.id, action.fail_count, action.end_at, now, _describe(error), after=after
    )


def _said(error: BaseException) -> str:
    """Return the message alone, of whatever a processor raised."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  its own __str__
        return type(error).__name__


def _describe(error: BaseException) -> str:
    """Type and message first, then as much of the traceback's end as fits."""
    text = "".join(traceback.format_exception_only(type(error), error)).strip()
    frames = "".join(traceback.format_tb(error.__traceback__))
    room = max(MAX_ERROR - len(text) - 1, 0)
    return f"{text}\n{frames[-room:] if room else ''}".strip()
