"""The ledger answers, journals and stores what the reference says, whatever is asked of it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import redis
from fakeredis import FakeAsyncRedis, FakeServer
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.ledger.connection import connect
from tests.property.machine import LedgerMachine


def run(make: Callable[[], Redis] | None, examples: int) -> None:
    """Run the machine so many times, each time for as many steps as the profile says."""

    class Machine(LedgerMachine):
        connect: ClassVar[Callable[[], Redis] | None] = make and staticmethod(make)

    run_state_machine_as_test(Machine, settings=settings(max_examples=examples))


def test_the_reference_keeps_its_promises(nightly: bool) -> None:
    run(None, 300 if nightly else 15)


def test_the_ledger_on_valkey_is_the_reference(redis_url: str, nightly: bool) -> None:
    run(lambda: connect(redis_url), 100 if nightly else 12)


def test_the_ledger_on_fakeredis_is_the_reference(nightly: bool) -> None:
    run(
        lambda: FakeAsyncRedis(server=FakeServer(), protocol=2, retry=Retry(NoBackoff(), 0)),
        20 if nightly else 4,
    )


@pytest.fixture
def installed_redis(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server is installed")
    socket = tmp_path / "redis.sock"
    command = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(tmp_path)]
    url = f"unix://{socket}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            with redis.Redis.from_url(url) as client:
                while server.poll() is None:
                    try:
                        client.ping()
                        break
                    except redis.ConnectionError:
                        continue
            yield url
        finally:
            server.terminate()


def test_the_ledger_on_an_installed_redis_is_the_reference(installed_redis: str, nightly: bool) -> None:
    run(lambda: connect(installed_redis), 100 if nightly else 5)
