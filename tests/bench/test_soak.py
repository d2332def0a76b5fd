"""The soak: what grows is told, what does not is let pass, and a run looks at everything that could grow."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.progress import Progress

from tests.bench.bed import Bed
from tests.bench.gauges import MEMORY, MEMORY_OF_REDIS, connections_to, family, open_files
from tests.bench.soak import Soaked, line_of, soak
from tests.bench.steady import LOOKS_MIN, Bound, Series, TooShort, Verdict, judge, thirds

LOOKS = 30
OPERATIONS = [1000 * look for look in range(LOOKS)]


def judged(values: list[float], bound: Bound = MEMORY) -> Verdict:
    (verdict,) = judge([Series("api: memory", "MiB", bound, values)], OPERATIONS[: len(values)])
    return verdict


def test_what_stays_as_it_is_has_not_grown():
    assert judged([100.0] * LOOKS).holds


def test_what_is_filled_at_the_beginning_has_not_grown():
    assert judged([20.0, 40.0, 60.0, 80.0, 95.0, *[100.0] * (LOOKS - 5)]).holds


def test_one_peak_is_not_growth():
    values = [100.0] * LOOKS
    values[-2] = 9_000.0
    assert judged(values).holds


@pytest.mark.parametrize(("each", "holds"), [(0.0, True), (1.5, True), (3.0, False)])
def test_what_grows_all_the_time_is_held_against_its_bound(each: float, holds: bool):
    verdict = judged([100.0 + each * look for look in range(LOOKS)])
    assert verdict.first == 100.0 + each * 9.5
    assert verdict.last == 100.0 + each * 25.5
    assert verdict.most == pytest.approx(verdict.first * 1.1 + 24)
    assert verdict.holds is holds
    assert str(verdict).startswith("**") is not holds


@pytest.mark.parametrize(("bytes_each", "holds"), [(0, True), (1_999, True), (2_001, False)])
def test_what_must_be_remembered_may_grow_by_so_much_for_each_operation(bytes_each: int, holds: bool):
    verdict = judged([50.0 + bytes_each * done / 2**20 for done in OPERATIONS], MEMORY_OF_REDIS)
    assert verdict.grown == pytest.approx(bytes_each)
    assert verdict.holds is holds


def test_too_few_looks_are_not_judged():
    judged([1.0] * LOOKS_MIN)
    with pytest.raises(TooShort):
        judged([1.0] * (LOOKS_MIN - 1))


def test_thirds_leave_out_the_warm_up():
    assert thirds([*[-1.0] * 6, *[1.0] * 8, *[5.0] * 8, *[3.0] * 8]) == (1.0, 3.0)


def test_files_and_children_of_a_process_are_counted(tmp_path: Path):
    before = open_files(os.getpid())
    with (tmp_path / "one").open("w"):
        assert open_files(os.getpid()) == before + 1
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in family(os.getpid())


def test_connections_are_counted_while_neither_side_has_closed_them():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = server.accept()
            assert connections_to(port) == 1
        assert connections_to(port) == 0  # what we leave open after that is a leak
        accepted.close()


LEVEL = Verdict("p50", "ms", 4.0, 4.0, 4.0, 11.0)
GROWN = Verdict("api: memory", "MiB", 90.0, 190.0, 190.0, 123.0)


@pytest.mark.parametrize(
    ("verdicts", "amiss", "errors", "good", "figure"),
    [
        ([LEVEL], [], 0, True, "all 1 within their bounds"),
        ([LEVEL, GROWN], [], 0, False, "grown: api: memory"),
        ([LEVEL], ["one is missing"], 0, False, "all 1 within their bounds"),
        ([LEVEL], [], 1, False, "all 1 within their bounds"),
    ],
)
def test_growth_a_mismatch_or_an_error_fails_it(verdicts, amiss, errors, good, figure):
    found = Soaked(verdicts, amiss, errors, 600, 500, 60.0)
    assert found.good is good
    line = line_of(found, 1)
    assert (line.reached, line.figure) == (good, figure)
    assert line.repeat == "python -m tests.bench.soak --minutes 1 --write"
    assert f"{len(amiss)} mismatches, {errors} errors" in line.beside


@pytest.mark.nightly("a whole ledger for some seconds, from which nothing is judged")
def test_a_whole_ledger_is_soaked_for_some_seconds():
    with Bed() as bed:
        found = soak(bed, 6.0, Progress(disable=True))
    assert found.amiss == []
    assert found.answered > 100
    assert found.transactions > 100
    ours = ("api", "worker", "cron", "valkey")
    assert {each.name for each in found.verdicts} == {
        *(f"{name}: memory" for name in ours), *(f"{name}: open files" for name in ours),
        "postgresql: memory", "postgresql: connections", "valkey: connections", "p50", "p99", "journal's lag",
    }  # fmt: skip
    for each in found.verdicts:
        assert each.first > 0 or each.name == "journal's lag"
