"""Settings: the section ``[claim_dispatch]`` of Airflow's configuration, or the environment.

Without Airflow, ``CLAIM_DISPATCH_LEASE`` and its like stand for the same options.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from airflow_claim_dispatch.core.errors import InvalidProcessor, InvalidSetting
from airflow_claim_dispatch.core.processor import Processor, Processors
from airflow_claim_dispatch.core.retention import Retention
from airflow_claim_dispatch.core.rules import RuleEvaluator

SECTION = "claim_dispatch"

#: Option: (default, description). Provider info declares them to Airflow from here.
OPTIONS: dict[str, tuple[str, str]] = {
    "conn_id": (
        "claim_dispatch_default",
        "Connection to the database of the action log; Postgres or SQLite.",
    ),
    "table": ("action_logs", "Table of the action log, with its schema if need be."),
    "deployment": (
        "airflow",
        "Name of this Airflow; those that share a log need different names.",
    ),
    "processors": ("", "Dotted paths of the processors of `claim-dispatch run`, by commas."),
    "default_limit": (
        "1000",
        "Actions that one claim takes at most, unless the DAG says otherwise.",
    ),
    "lease": ("300", "Seconds for which a claim holds; renewed while its actions run."),
    "max_lease": (
        "86400",
        "Seconds after which a lease ends although Airflow says that its task still runs or waits.",
    ),
    "max_attempts": ("5", "Failures after which an action is dead, unless its processor says."),
    "max_payload_bytes": ("262144", "Size of the largest payload, rules and meta included."),
    "rule_evaluator": (
        "airflow_claim_dispatch.core.rules.JsonLogic",
        "Class that evaluates rules.",
    ),
    "retention": (
        '{"*": {"processed": "P30D", "skipped": "P30D", "cancelled": "P30D"}, "decisions": "P1Y"}',
        "How long settled actions (by type and outcome) and decisions stay; for ever if not named.",
    ),
    "listen": (
        "True",
        "Whether watchers LISTEN for new actions; turn it off behind a pooler in transaction mode.",
    ),
}


def get(option: str) -> str:
    """Return the text of an option."""
    default, _ = OPTIONS[option]
    conf = _airflow_conf()
    if conf is None:
        return os.environ.get(_place(option), default)
    return str(conf.get(SECTION, option, fallback=default))


def get_int(option: str) -> int:
    """Return an option that is a positive whole number; raise InvalidSetting if it is not."""
    text = get(option)
    if not text.strip().isdecimal() or int(text) < 1:
        raise InvalidSetting(f"{_place(option)} must be a positive whole number, not {text!r}")
    return int(text)


def get_bool(option: str) -> bool:
    """Return an option that says yes or no."""
    return get(option).strip().lower() in ("true", "t", "yes", "y", "on", "1")


def retention() -> Retention:
    """Return how long settled actions stay; raise InvalidSetting if the option is no retention."""
    return Retention.parse(get("retention"))


def load_processors(paths: str | None = None) -> Processors:
    """Return the processors at these dotted paths, or those of the setting.

    Raises InvalidProcessor if there are none, or one cannot be imported.
    """
    listed = [path.strip() for path in (paths or get("processors")).split(",") if path.strip()]
    if not listed:
        raise InvalidProcessor(
            f"no processors: name them in {_place('processors')}, or with"
            " --processors package.module.name"
        )
    return Processors([_processor(path) for path in listed])


def _place(option: str) -> str:
    """Say where an option is set."""
    return f"[{SECTION}] {option}" if airflow_is_here() else f"CLAIM_DISPATCH_{option.upper()}"


@cache
def rule_evaluator() -> RuleEvaluator:
    """Return the rule evaluator of the settings."""
    evaluator = _load(get("rule_evaluator"))
    made: RuleEvaluator = evaluator() if isinstance(evaluator, type) else evaluator
    return made


def _processor(path: str) -> Processor:
    loaded = _load(path)
    made: Processor = loaded() if isinstance(loaded, type) else loaded
    return made


def _load(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(f"cannot import {path!r}: {error}") from error


@cache
def airflow_is_here() -> bool:
    """Whether Airflow is installed; a folder of that name, on the path, is not Airflow."""
    spec = find_spec("airflow")
    return spec is not None and spec.origin is not None


@cache
def _airflow_conf() -> Any:
    if not airflow_is_here():
        return None
    from airflow.sdk import conf

    return conf
