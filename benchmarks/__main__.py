"""Run the benchmarks: ``python -m benchmarks [--quick] [measure …]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from time import monotonic

from benchmarks import results
from benchmarks.figures import Outcome
from benchmarks.server import Server
from benchmarks.sizes import FULL, QUICK, Sizes

MEASURES = [
    "peers", "publishing", "growth", "clutter", "churn", "desk", "page", "imports", "latency",
    "airflow_latency", "airflow",
]  # fmt: skip
_FOLDER = Path(__file__).parent


def main() -> None:
    """Measure, print, and write the results of a full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: writes nothing here")
    parser.add_argument("--output", type=Path, help="the folder for RESULTS.md and the plots")
    parser.add_argument("measures", nargs="*", help=f"of {', '.join(MEASURES)}; all by default")
    arguments = parser.parse_args()
    if unknown := set(arguments.measures) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    sizes = QUICK if arguments.quick else FULL

    with (
        tempfile.TemporaryDirectory(prefix="claim-dispatch-bench-") as name,
        Server(Path(name)) as server,
    ):
        outcomes = [_measure(measure, server, sizes) for measure in arguments.measures or MEASURES]
        complete = not arguments.quick and not arguments.measures
        if output := arguments.output or (_FOLDER if complete else None):
            command = " ".join(["python -m benchmarks", *sys.argv[1:]])
            results.write(output, outcomes, command, server)


def _measure(name: str, server: Server, sizes: Sizes) -> Outcome:
    start = monotonic()
    outcome: Outcome = import_module(f"benchmarks.measures.{name}").measure(server, sizes)
    _say(f"{name} ({monotonic() - start:.0f} s)\n{results.table(outcome.rows)}\n")
    return outcome


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
