"""`backfill ui`: the webserver answers on loopback only, and everything ends with the command."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from backfill_pipeline.storage.server import EmbeddedServer
from backfill_pipeline_tests.shell import Shell, one_line, shell


@pytest.fixture(scope="module")
def desk(server: EmbeddedServer) -> Iterator[Shell]:
    with shell(server, BACKFILL_DAILY_START="2026-01-01", BACKFILL_INTRADAY_START="2026-07-01") as made:
        assert made.quick("symbols", "add", "AAPL", "X:BTCUSD").returncode == 0
        # A .env in the working folder holds what the code location needs, although Dagster runs elsewhere.
        (made.folder / ".env").write_text("BACKFILL_NIGHTLY_CRON=0 3 * * *\n", encoding="utf-8")
        yield made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, query: str) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
        return data


def wait_for(port: int, ui: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while True:
        try:
            ask(port, "{version}")
        except (OSError, urllib.error.URLError):
            assert ui.poll() is None, ui.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return


def family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def listening(processes: list[psutil.Process]) -> set[tuple[str, int]]:
    """Address and port of every TCP socket that waits for connections."""
    return {
        (connection.laddr.ip, connection.laddr.port)
        for process in processes
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }


def test_the_ui_shows_assets_and_partitions_on_loopback_and_ends_without_leftovers(desk: Shell) -> None:
    port = free_port()
    ui = desk.start("ui", "--port", str(port))
    processes: list[psutil.Process] = []
    try:
        wait_for(port, ui)
        processes = family(ui.pid)
        assert {ip for ip, _ in listening(processes)} <= {"127.0.0.1", "::1"}
        assert port in {of for _, of in listening(processes)}

        nodes = ask(port, "{assetNodes {assetKey {path} groupName jobNames dependencyKeys {path}}}")["assetNodes"]
        of = {node["assetKey"]["path"][0]: node for node in nodes}
        assert len(of) == 18  # two chains, and corporate_actions and completeness
        assert of["features_1h"]["groupName"] == "intraday"
        assert of["features_1h"]["dependencyKeys"] == [{"path": ["bars_1h"]}]
        assert "backfill_intraday" in of["features_1h"]["jobNames"]

        fields = "... on AssetNode {partitionKeysByDimension {name partitionKeys}}"
        query = f'{{assetNodeOrError(assetKey: {{path: ["bars_1d"]}}) {{{fields}}}}}'
        dimensions = ask(port, query)["assetNodeOrError"]["partitionKeysByDimension"]
        keys = {dimension["name"]: dimension["partitionKeys"] for dimension in dimensions}
        assert keys["symbol"] == ["AAPL", "X:BTCUSD"]
        assert keys["date"][:2] == ["2026-01", "2026-02"]

        # A second one on the same port says what to do.
        assert f"port {port} on 127.0.0.1 cannot be used; choose another" in one_line(
            desk.quick("ui", "--port", str(port))
        )
    finally:
        processes = processes or family(ui.pid)
        os.killpg(ui.pid, signal.SIGINT)
        out, err = ui.communicate(timeout=60)

    assert ui.returncode == 0, err
    assert out.startswith(f"Dagster's UI: http://127.0.0.1:{port} (Ctrl-C ends it)\n")
    assert err.splitlines()[-1] == "ended; the database stays up: backfill db stop"
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []
