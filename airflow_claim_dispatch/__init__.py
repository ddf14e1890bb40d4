"""One table is a durable to-do list for Airflow.

The public names are resolved when they are first used: importing this package imports neither
Airflow nor SQLAlchemy, so that applications publish without Airflow, and DAG files parse fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_claim_dispatch.assets import ActionsDead, ActionsDue
    from airflow_claim_dispatch.core.action import Action
    from airflow_claim_dispatch.core.draft import Draft
    from airflow_claim_dispatch.core.flow import Rate
    from airflow_claim_dispatch.core.processor import Processor
    from airflow_claim_dispatch.core.receipt import Receipt
    from airflow_claim_dispatch.core.retention import Retention
    from airflow_claim_dispatch.core.settlement import Reject, Retry, Skip, Snooze
    from airflow_claim_dispatch.core.times import wall_clock
    from airflow_claim_dispatch.decorators import processor
    from airflow_claim_dispatch.groups import dispatch
    from airflow_claim_dispatch.hooks import ClaimDispatchHook
    from airflow_claim_dispatch.notifications import PublishAction
    from airflow_claim_dispatch.operators import ClaimDispatchOperator
    from airflow_claim_dispatch.publisher import AsyncPublisher, Publisher
    from airflow_claim_dispatch.residents import ResidentOperator
    from airflow_claim_dispatch.sensors import ClaimSensor
    from airflow_claim_dispatch.storage.action_log import ActionLog
    from airflow_claim_dispatch.storage.states import Filter
    from airflow_claim_dispatch.upkeep import PublishActionOperator, PurgeActionsOperator

__version__ = "0.1.0"

_HOMES = {
    "Action": "core.action",
    "ActionLog": "storage.action_log",
    "ActionsDead": "assets",
    "ActionsDue": "assets",
    "AsyncPublisher": "publisher",
    "ClaimDispatchHook": "hooks",
    "ClaimDispatchOperator": "operators",
    "ClaimSensor": "sensors",
    "Draft": "core.draft",
    "Filter": "storage.states",
    "Processor": "core.processor",
    "PublishAction": "notifications",
    "PublishActionOperator": "upkeep",
    "Publisher": "publisher",
    "PurgeActionsOperator": "upkeep",
    "Rate": "core.flow",
    "Receipt": "core.receipt",
    "Reject": "core.settlement",
    "ResidentOperator": "residents",
    "Retention": "core.retention",
    "Retry": "core.settlement",
    "Skip": "core.settlement",
    "Snooze": "core.settlement",
    "dispatch": "groups",
    "processor": "decorators",
    "wall_clock": "core.times",
}

__all__ = [
    "Action",
    "ActionLog",
    "ActionsDead",
    "ActionsDue",
    "AsyncPublisher",
    "ClaimDispatchHook",
    "ClaimDispatchOperator",
    "ClaimSensor",
    "Draft",
    "Filter",
    "Processor",
    "PublishAction",
    "PublishActionOperator",
    "Publisher",
    "PurgeActionsOperator",
    "Rate",
    "Receipt",
    "Reject",
    "ResidentOperator",
    "Retention",
    "Retry",
    "Skip",
    "Snooze",
    "__version__",
    "dispatch",
    "processor",
    "wall_clock",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
