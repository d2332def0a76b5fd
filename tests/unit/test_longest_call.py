"""A call is journaled whole. One that is longer than the worker looks for its end would fence its shard."""

import re
from pathlib import Path

from app.http.batched import OPERATIONS_MAX
from persistence.journal import CALL_ENTRIES_MAX

LUA = Path(__file__).parents[2] / "lua"


def constant(file: str, name: str) -> int:
    found = re.search(rf"\b{name} = (\d+)\b", (LUA / file).read_text())
    assert found is not None, f"{file} says nothing of {name}"
    return int(found[1])


def test_the_worker_finds_the_end_of_the_longest_call_that_can_be_made():
    parts_max = 100
    assert f"PARTS_MAX = 86400000, {parts_max}" in (LUA / "operations/confirm.lua").read_text()
    events_max = constant("parts/time.lua", "EVENTS_MAX")
    refunded_and_lapsed = 2 * (parts_max + 1)
    assert OPERATIONS_MAX * refunded_and_lapsed + 2 * events_max < CALL_ENTRIES_MAX
