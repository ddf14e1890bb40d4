"""What the package adds to the import time of a DAG file, which Airflow pays at every parse."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from benchmarks.figures import Goal, Outcome, Ratio, Row, in_turns, milliseconds
from benchmarks.server import Server
from benchmarks.sizes import Sizes

_AIRFLOW = "from airflow.sdk import dag, task"
_OURS = f"{_AIRFLOW}\nfrom airflow_claim_dispatch import Action, ActionsDue, processor"
_TIMED = "from time import perf_counter\nstart = perf_counter()\n{}\nprint(perf_counter() - start)"


def measure(_server: Server, sizes: Sizes) -> Outcome:
    """Start interpreters in turns."""
    contestants = {"ours": lambda: _import(_OURS), "airflow": lambda: _import(_AIRFLOW)}
    seconds = in_turns(contestants, sizes.imports)
    ours, airflow = seconds["ours"], seconds["airflow"]
    figures = f"{milliseconds(median(ours))} and {milliseconds(median(airflow))}"
    goal = Goal(at_most=1.05)
    row = Row("import in a DAG file", "airflow.sdk alone", goal, Ratio.of(ours, airflow), figures)
    return Outcome([row])


def _import(statements: str) -> float:
    command = [sys.executable, "-c", _TIMED.format(statements)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=120)  # noqa: S603  our own interpreter
    return float(done.stdout.splitlines()[-1])
