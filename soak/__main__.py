"""Soak the log: ``python -m soak [--seconds 120] [--seed N] [--report FOLDER] …``.

Ends with 0 if the checker found no violation.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from airflow_claim_dispatch.storage import migrate
from airflow_claim_dispatch.storage.engines import open_engine
from soak import checker, report
from soak.chaos import Chaos, Crew
from soak.effects import Effects
from soak.server import CrashablePostgres

#: Seconds within which everything that is left must end, once nothing goes wrong any more.
_PATIENCE = 300


def main() -> int:
    """Soak, check and report."""
    options = _options()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory(prefix="soak") as temporary:
        folder = options.keep or Path(temporary)
        effects = folder / "effects"
        effects.mkdir(parents=True)
        postgres = CrashablePostgres(Path(temporary))
        with postgres:
            url = postgres.create("soak")
            seconds = _soak(postgres, url, effects, options)
            _say(f"checking {sum(file.stat().st_size for file in effects.iterdir()):,} bytes …")
            verdict = checker.check(url, effects)
    _say(report.write(options.report, verdict, seconds, options))
    return 1 if verdict.violations or not verdict.counts["actions"] else 0


def _soak(
    postgres: CrashablePostgres, url: str, folder: Path, options: argparse.Namespace
) -> float:
    seconds = options.seconds
    engine = open_engine(url)
    migrate.migrate(engine)
    engine.dispose()
    effects = Effects(folder, "chaos")
    chaos = Chaos(postgres, effects)
    through_proxy = url.replace(f":{postgres.port}/", f":{chaos.port}/")
    crew = Crew(through_proxy, folder, effects, workers=options.workers, batch=options.batch)
    try:
        while len(list(folder.glob("worker*.effects"))) < options.workers:
            crew.look_after()
            time.sleep(0.05)
        started = time.monotonic()
        _say(f"{options.workers} processes at work for {seconds:.0f} s …")
        pause = min(6.0, seconds / 8)
        happenings = chaos.happenings(crew)
        next_at = started + pause
        while (now := time.monotonic()) < started + seconds:
            crew.look_after()
            chaos.watch_the_clock()
            if now >= next_at:
                next(happenings)()
                next_at = time.monotonic() + random.uniform(0.5, 1) * pause  # noqa: S311
            time.sleep(0.05)
        (folder / "stop").touch()
        _say("nothing goes wrong any more; the rest has to end …")
        while crew.look_after():
            if time.monotonic() > started + seconds + _PATIENCE:
                _say("it has not ended")
                break
            time.sleep(0.05)
        return time.monotonic() - started
    finally:
        crew.end()
        chaos.end()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--report", type=Path, default=Path(__file__).with_name("report"))
    parser.add_argument("--keep", type=Path, help="keep the log of effects in this folder")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
