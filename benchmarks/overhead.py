"""What Dagster costs: two years of one symbol's minutes at day grain as a run of the chain's job, and as the same steps
called as functions. Both in processes of their own, from Python's start to its end.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from datetime import date

from backfill_pipeline.defs.running import asset_names
from backfill_pipeline.domain.timeframe import INTRADAY
from backfill_pipeline_tests.shell import Shell

from .desk import cpu_seconds, desk, machine, server_pid
from .figures import Figure
from .filled_instance import chain_command
from .filled_instance import run as run_command

FIRST, LAST = date(2024, 1, 2), date(2026, 1, 1)
# A run's fixed share: the start of Dagster, its checks, twelve pictures.
FIXED = 6.0
LIMIT_MS = 1.2
ROUNDS = 3


def run(rounds: int = ROUNDS) -> list[Figure]:
    """The least of some rounds, both sides in turn. CPU: of the process and of PostgreSQL together."""
    pairs = ((LAST - FIRST).days + 1) * len(asset_names(INTRADAY))
    plain, dagster = [], []
    with desk(BACKFILL_INTRADAY_START=str(FIRST)) as made:
        names = [f"{side}{number}" for number in range(rounds) for side in "FD"]
        assert made.quick("symbols", "add", *names, "--bars", "1m").returncode == 0
        for number in range(rounds):
            functions = [sys.executable, "-m", "benchmarks.functions", f"F{number}", str(FIRST), str(LAST)]
            plain.append(_cost(made, functions))
            dagster.append(_cost(made, chain_command(f"D{number}", FIRST, LAST)))
            green = made.dagster_query(
                f"SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'"
                f" AND partition LIKE '%|D{number}'"
            )
            assert green == [(pairs,)], green
    (wall, cpu), (plain_wall, plain_cpu) = _least(dagster), _least(plain)
    return [
        Figure(
            f"Dagster's cost past {FIXED:g} s, ms per asset and partition",
            1000 * (wall - plain_wall - FIXED) / pairs,
            LIMIT_MS,
        ),
        Figure("  the same in CPU", 1000 * (cpu - plain_cpu - FIXED) / pairs, None),
        Figure(f"  as a run of {pairs} assets and partitions, s", wall, None),
        Figure("  as functions, s", plain_wall, None),
        Figure("  as a run, CPU s", cpu, None),
        Figure("  as functions, CPU s", plain_cpu, None),
        Figure(f"  on {machine()}", 0, None),
    ]


def _least(costs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """What other work on the machine adds is no cost of ours."""
    wall, cpu = zip(*costs, strict=True)
    return min(wall), min(cpu)


def _cost(made: Shell, command: Sequence[str]) -> tuple[float, float]:
    """Seconds that a command takes, and CPU seconds of it and PostgreSQL."""
    server = server_pid(made)
    before, began = cpu_seconds(server) + _children(), time.perf_counter()
    run_command(made, command)
    took = time.perf_counter() - began
    return took, cpu_seconds(server) + _children() - before


def _children() -> float:
    """CPU seconds of the commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
