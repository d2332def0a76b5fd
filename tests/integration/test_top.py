"""`lastro top` against a ledger that runs: what it shows, and that it names what fails."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.folders import reachable_folder
from tests.integration.running import LASTRO, ROOT, LastroUp, environment, lastro


@pytest.fixture(scope="module")
def running() -> Iterator[LastroUp]:
    with reachable_folder() as folder:
        up = LastroUp(folder)
        up.start()
        for account in ("ana", "bob"):
            assert up.post("/api/credits/grant", {"accountId": account, "amount": 1_000})[0] == 201
        body = {"accountId": "ana", "amount": 60, "modelId": "video"}
        assert up.post("/api/credits/deduct", body)[0] == 201
        assert up.post("/api/credits/reserve", {"accountId": "bob", "amount": 41})[0] == 201
        seen = "/api/credits/monitoring?type=overview"
        ends = time.monotonic() + 60
        while up.get(seen)[1].get("held") != 41:
            assert time.monotonic() < ends
            time.sleep(0.2)
        yield up
        up.stop()


def typed(running: LastroUp, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`lastro top --once` in a shell without a terminal."""
    return lastro("top", "--once", *(arguments or ("--data", str(running.data))), COLUMNS="120")


def change(up: LastroUp, action: str) -> None:
    assert up.post("/api/credits/auto-cleanup", {"action": action})[0] == 200


def test_it_shows_credits_accounts_reservations_rate_and_who_spends_most(running):
    shown = typed(running)
    assert shown.stderr == ""
    assert "1,899 available, 41 held, 1,940 owed to customers" in shown.stdout
    assert "2, 2 with credits" in shown.stdout
    assert "1 pending, 0 confirmed, 0 cancelled, 0 expired" in shown.stdout
    assert re.search(r"now +[\d.,]+ transactions/s", shown.stdout)
    assert "60 in 24 hours" in shown.stdout
    assert re.search(r"ana +60", shown.stdout)
    assert re.search(r"video +60", shown.stdout)
    assert "\x1b" not in shown.stdout, "no terminal, no signs for one"


def test_what_needs_attention_is_named_and_told_by_the_exit_code(running):
    change(running, "stop")
    try:
        shown = typed(running)
        assert shown.returncode == 1
        assert re.search(r"warning +cleanup +\S+", shown.stdout)
        assert "WARNING" in shown.stdout
    finally:
        change(running, "start")


def test_where_there_is_no_terminal_it_goes_on_with_a_line_for_each_look(running):
    command = [*LASTRO, "top", "--data", str(running.data), "--seconds", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()
    for line in lines:
        assert re.match(r"\d\d:\d\d:\d\d  (healthy|warning|critical)  ", line), line
        assert "1,899 available, 41 held  1 pending, lag " in line


def test_a_wrong_key_a_wrong_address_and_a_stranger_are_named(running):
    shown = typed(running, "--data", str(running.data), "--key", "lk_wrong")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "401" in shown.stderr
    shown = typed(running, "--url", "http://127.0.0.1:9", "--key", "x")
    assert shown.returncode == 2
    assert "no answer" in shown.stdout
    assert "UNKNOWN" in shown.stdout
    shown = typed(running, "--url", "http://127.0.0.1:9")
    assert (shown.returncode, "needs --key" in shown.stderr) == (2, True)


def test_without_postgresql_the_numbers_are_gone_and_what_fails_is_named(running):
    servers = [each.pid for each in running.family() if "postgres" in each.command]
    assert servers
    for pid in servers:
        os.kill(pid, signal.SIGSTOP)
    try:
        shown = typed(running)
    finally:
        for pid in servers:
            os.kill(pid, signal.SIGCONT)
    assert shown.returncode == 2
    assert "503" in shown.stdout
    assert re.search(r"critical +postgres +\S+", shown.stdout)
    assert "available" not in shown.stdout
