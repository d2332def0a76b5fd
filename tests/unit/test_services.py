"""What the parts of a ledger see to before they begin."""

import subprocess
import sys

import pytest

from app.cli import services
from persistence.asking import AT_ONCE

# What a loop has for looking up names, after it has looked one up.
THREADS = """
import asyncio, os, uvloop
from app.cli.services import look_up_names_beside_each_other
{}
async def threads():
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    return len(os.listdir("/proc/self/task"))
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    print(runner.run(threads()))
"""


def threads(first: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", THREADS.format(first)], capture_output=True, text=True, check=True, env={}
    )
    return int(ran.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads where Linux shows them")
def test_all_that_are_asked_at_once_may_be_looked_up_in_vain_and_the_servers_are_found_all_the_same():
    assert threads("") < AT_ONCE, "or there is no need for it any more"
    assert threads("look_up_names_beside_each_other()") // 2 > AT_ONCE


@pytest.mark.parametrize("command", ["api", "worker"])
def test_who_has_an_event_loop_of_uvloop_looks_names_up_beside_each_other(command):
    assert "look_up_names_beside_each_other" in getattr(services, command).callback.__code__.co_names
