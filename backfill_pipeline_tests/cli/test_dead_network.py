"""A key and no network: `backfill run` says so in one line and soon, and the demonstration does not care."""

import re
import socket

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, reachable_folder, shell

KEY = "planted-key-0123456789"
WEEK = ("--symbols", "AAPL", "--start", "2026-08-03", "--end", "2026-08-07")


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_a_run_says_so_in_one_line_and_soon_and_stores_nothing(server: EmbeddedServer) -> None:
    url = nobody()
    # The rate is the free plan's, as without any setting: tries are 12.5 s apart.
    with shell(server, BACKFILL_PROVIDER="auto", POLYGON_API_KEY=KEY, POLYGON_BASE_URL=url) as made:
        assert made.quick("symbols", "add", "AAPL").returncode == 0
        ran = made.backfill("run", *WEEK)

        assert ran.returncode == 1
        told = [line for line in ran.stderr.splitlines() if "connection refused" in line]
        assert told == ran.stderr.splitlines()[-1:], ran.stderr
        # Soon: 16 s on a machine that does nothing else. Eight tries took 165 s.
        question = rf"polygon: AAPL 1[md] 2026-08-03 to 2026-08-08: {url}: connection refused; tried 2 times, ask again"
        assert re.match(question, told[0])
        assert "Traceback" not in ran.stderr
        assert KEY not in ran.stdout + ran.stderr
        for table in ("bars", "coverage", "features"):
            assert made.query(f"SELECT count(*) FROM {table}") == [(0,)]
        assert made.runs() == [("master_backfill", "FAILURE")]


def test_the_demonstration_shows_the_sample_with_a_key_and_no_network() -> None:
    nowhere = nobody()
    variables = {
        "BACKFILL_PROVIDER": "polygon",
        "POLYGON_API_KEY": KEY,
        "POLYGON_BASE_URL": nowhere,
        "TRADIER_TOKEN": "planted-token-9876543210",
        "TRADIER_BASE_URL": nowhere,
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), nowhere),
    }
    with reachable_folder() as folder:
        ran = Shell(folder, variables).backfill("demo")
        outside = Shell(folder / ".backfill", {"BACKFILL_HOME": str(folder / ".backfill" / "demo")})
        stopped = outside.backfill("db", "stop")

    assert ran.returncode == 0, ran.stderr
    assert "partitions: 8 complete; 1 request, 3,096 bars" in ran.stdout
    assert KEY not in ran.stdout + ran.stderr
    assert stopped.stdout == "stopped\n"
