"""`sudo python -m benchmarks.distributed [SYMBOLS] [DAYS]`: a backfill of the UI on two hosts, one of which is cut off,
comes back, and is killed; then what a second worker a host brings. Prints figures; exit code 1 if anything is wrong.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from backfill_pipeline.storage.connection import connect
from backfill_pipeline_tests.broker import broker
from backfill_pipeline_tests.cli.test_distributed import is_loaded
from backfill_pipeline_tests.cli.test_ui import ask
from backfill_pipeline_tests.cli.test_ui_backfill import launch, ui
from backfill_pipeline_tests.second_server import SecondServer, second_server
from backfill_pipeline_tests.shell import Shell, reachable_folder
from backfill_pipeline_tests.standin import StandIn
from backfill_pipeline_tests.tables import differences, tables

from .hosts import HOSTS, HUB_ADDRESS, Host, network, processes_of, within_hub

FIRST = date(2025, 10, 20)
KEY = "planted-key-0123456789"
# A plan of five requests a minute, a minute scaled down to these seconds.
MINUTE = 4.0
# A host is told to be gone a minute after it last spoke; its run is ended and taken up within another half.
AWAY = 100.0


@contextmanager
def desk(server: SecondServer, url: str, standin: StandIn, folder: Path, name: str, **more: str) -> Iterator[Shell]:
    variables = {
        "BACKFILL_HOME": str(folder / name),
        "BACKFILL_INTRADAY_START": str(FIRST),
        "DATABASE_URL": server.url(f"market_{name}"),
        "DAGSTER_DATABASE_URL": server.url(f"dagster_{name}"),
        "BACKFILL_BROKER": url,
        "BACKFILL_PROVIDER": "polygon",
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": standin.url,
        "POLYGON_REQUESTS_PER_MINUTE": str(round(5 * 60 / MINUTE)),
        **more,
    }
    made = Shell(folder, {key: value for key, value in variables.items() if value})
    try:
        yield made
    finally:
        made.close()


def wait(reached: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)


def say(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:7.1f} s  {text}", flush=True)


BEGAN = time.monotonic()


def at_work(shell: Shell, host: Host) -> list[str]:
    """The runs that the host's processes have begun and not ended."""
    pids = {process.pid for process in processes_of(host.name)}
    rows = shell.dagster_query(
        "SELECT r.run_id, e.event FROM runs AS r JOIN event_logs AS e USING (run_id)"
        " WHERE r.status = 'STARTED' AND e.event LIKE '%Started process for run (pid%'"
    )
    return [str(run) for run, event in rows if int(str(event).split("run (pid: ")[1].split(")")[0]) in pids]


def statuses(shell: Shell) -> dict[str, int]:
    return {str(s): int(str(n)) for s, n in shell.dagster_query("SELECT status, count(*) FROM runs GROUP BY 1")}


def seconds_of_runs(shell: Shell) -> float:
    """From the start of the first run to the end of the last."""
    return float(str(shell.dagster_query("SELECT max(end_time) - min(start_time) FROM runs")[0][0]))


def finished(port: int, backfill_id: str) -> str:
    """How a backfill ended; waits for it, two hours at most."""
    asked = f'{{partitionBackfillOrError(backfillId: "{backfill_id}") {{... on PartitionBackfill {{status}}}}}}'
    deadline = time.monotonic() + 7200
    while (status := ask(port, asked)["partitionBackfillOrError"]["status"]) in ("REQUESTED", "COMPLETED"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the backfill is {status}")
        time.sleep(2)
    return str(status)


def survive(shell: Shell, hosts: list[Host], symbols: list[str], days: list[str]) -> bool:
    one, two = hosts
    with ui(shell) as port:
        wait(lambda: is_loaded(port), 120, "the definitions are loaded")
        for host in hosts:
            host.start(shell.environment)
        backfill_id = launch(port, symbols, days)
        say(f"a backfill of the UI: {len(symbols)} symbols × {len(days)} days")
        wait(lambda: at_work(shell, one) and at_work(shell, two), 400, "both hosts are at work")
        time.sleep(5)
        cut = at_work(shell, one)
        one.cut_off()
        say(f"{one.name} is cut off in the middle of {len(cut)} runs; both were at work")
        time.sleep(AWAY)
        one.join_again()
        say(f"{one.name} is on the network again; runs: {statuses(shell)}")
        wait(lambda: [run for run in at_work(shell, one) if run not in cut], 400, "it is at work again")
        time.sleep(2)
        lost = at_work(shell, one)
        one.kill()
        say(f"{one.name} is killed in the middle of {len(lost)} runs")
        ended = finished(port, backfill_id)
    say(f"the backfill: {ended}; runs: {statuses(shell)}")
    return bool(ended == "COMPLETED_SUCCESS" and cut and lost)


def ratio(shell: Shell, hosts: list[Host], symbols: list[str], days: list[str], runs_at_once: int) -> float:
    with ui(shell) as port:
        wait(lambda: is_loaded(port), 120, "the definitions are loaded")
        for host in hosts:
            host.start(shell.environment, "--queues", "synthetic", "--runs-at-once", str(runs_at_once))
        time.sleep(30)  # both listen
        finished(port, launch(port, symbols, days))
    for host in hosts:
        host.kill()
    return seconds_of_runs(shell)


def main(count: int, length: int) -> int:
    symbols = [f"S{n:02d}" for n in range(count)]
    days = [str(FIRST + timedelta(days=n)) for n in range(length)]
    now = datetime(2026, 11, 1, tzinfo=UTC)
    limits = {"requests_per_minute": 5, "window_seconds": MINUTE}
    with ExitStack() as stack:
        standin = stack.enter_context(StandIn(address=HUB_ADDRESS, now=now, keys=(KEY,), **limits))
        server = stack.enter_context(second_server(HUB_ADDRESS))
        url = stack.enter_context(broker(HUB_ADDRESS))
        folder = stack.enter_context(reachable_folder())
        hosts = [Host(name, folder) for name in HOSTS]
        stack.callback(lambda: [host.kill() for host in hosts])

        farm = stack.enter_context(desk(server, url, standin, folder, "farm"))
        print(farm.quick("symbols", "add", *symbols, "--bars", "1m").stdout)
        good = survive(farm, hosts, symbols, days)
        refused, asked = standin.provoked_429, len(standin.requests)
        say(f"requests: {asked}, of which {refused} were over the budget; runs took {seconds_of_runs(farm):.0f} s")

        standin.set(requests_per_minute=None)
        alone = stack.enter_context(desk(server, "", standin, folder, "alone", POLYGON_REQUESTS_PER_MINUTE="0"))
        alone.quick("symbols", "add", *symbols, "--bars", "1m")
        process = alone.start("run", "--timeframes", "1m", "--start", days[0], "--end", days[-1])
        out, errors = process.communicate(timeout=7200)
        say(f"a single machine: {out.splitlines()[0] if out else errors}")
        with (
            closing(connect(farm.variables["DATABASE_URL"])) as mine,
            closing(connect(alone.variables["DATABASE_URL"])) as theirs,
        ):
            found = differences(tables(mine), tables(theirs))
        print("\n".join(found) or "the databases are equal")

        few, short = symbols[:8], days[:90]
        took = {}
        for runs_at_once in (1, 2):
            name = f"ratio{runs_at_once}"
            with desk(server, url, standin, folder, name, BACKFILL_PROVIDER="synthetic") as shell:
                shell.quick("symbols", "add", *few, "--bars", "1m")
                took[runs_at_once] = ratio(shell, hosts, few, short, runs_at_once)
            say(f"{len(few)} symbols × {len(short)} days with {runs_at_once} a host: {took[runs_at_once]:.1f} s")
        say(f"throughput of 2 a host against 1: {took[1] / took[2]:.2f}; load of this machine {os.getloadavg()[0]:.1f}")
    return 0 if good and not found and not refused else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    arguments = sys.argv[1:]
    if arguments[:1] == ["--within"]:
        sys.exit(main(int(arguments[1]), int(arguments[2])))
    if os.geteuid() != 0:
        sys.exit("needs root: it makes network namespaces")
    with network():  # SIGTERM ends it cleanly, too
        sys.exit(within_hub(["--within", *(arguments + ["20", "365"][len(arguments) :])]))
