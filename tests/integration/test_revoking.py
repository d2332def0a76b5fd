"""A key that is revoked is refused within 5 seconds by every process of the API: here two."""

import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import httpx
import pytest

from app.embedded.ports import free_port
from persistence.birth import give_birth
from tests.processes import HOUSE

SECONDS = 5.0


@pytest.fixture
async def apis(database_url, redis_url, tmp_path):
    """Where two processes of one ledger listen."""
    await give_birth(database_url, redis_url, 1)
    environment = {**os.environ, "LASTRO_REDIS_URL": redis_url, "LASTRO_DATABASE_URL": database_url}
    environment["LASTRO_SHARDS"] = "1"
    with ExitStack() as stack:
        urls = []
        for _ in range(2):
            port = free_port()
            command = [sys.executable, "-m", "app.cli", "api", "--port", str(port), "--grace", "0"]
            process = subprocess.Popen(  # noqa: ASYNC220 - it only starts
                [*command, "--data", str(tmp_path)], cwd=HOUSE, env=environment, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            urls.append(f"http://127.0.0.1:{port}")
        for url in urls:
            _answers_by(url, {}, 200, "/health/live", within=20.0)
        yield urls


def _answers_by(
    url: str, headers: dict[str, str], status: int, path: str = "/api/credits/models", *, within: float
) -> float:
    """Ask until the answer has this status; after how many seconds it had."""
    began = time.monotonic()
    while True:
        try:
            if httpx.get(url + path, headers=headers, timeout=5).status_code == status:
                return time.monotonic() - began
        except httpx.HTTPError:
            pass
        assert time.monotonic() - began < within, f"{url} does not answer {status} after {within:g} s"
        threading.Event().wait(0.05)


def _keys(*arguments: str, database_url: str, redis_url: str) -> str:
    environment = {**os.environ, "LASTRO_REDIS_URL": redis_url, "LASTRO_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "app.cli", "keys", *arguments]
    done = subprocess.run(command, cwd=HOUSE, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


async def test_a_key_that_is_revoked_by_the_command_is_refused_by_two_processes(
    apis, database_url, redis_url
):
    stores = {"database_url": database_url, "redis_url": redis_url}
    token = _keys("create", "--name", "shop", "--scope", "read", **stores)
    headers = {"authorization": f"Bearer {token}"}
    for url in apis:
        _answers_by(url, headers, 200, within=10.0)
    assert "revoked shop" == _keys("revoke", "shop", **stores)
    revoked = time.monotonic()
    for url in apis:
        _answers_by(url, headers, 401, within=SECONDS)
    assert time.monotonic() - revoked < SECONDS
    for url in apis:
        assert _answers_by(url, headers, 401, within=0.5) < 0.5, "and it stays so"
