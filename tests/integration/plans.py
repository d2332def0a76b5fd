"""What PostgreSQL plans, in the words of the journal: of which month a table or an index is, is left out."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg

_MONTH = re.compile(r"journal_\d{4}_\d\d(_to_\d{4}_\d\d)?")

_PAGE = 1.0
"""What it costs to read one page, and so the least that a table costs that has a row."""

_INDEXES = {
    "journal_at_shard_seq_idx": "journal_at",
    "journal_reservation_idx": "journal_reservation",
    "journal_account_version_idx": "journal_thresholds",
    "journal_task_idx": "journal_task",
    "journal_shard_seq_idx": "journal_refunds",
    "journal_account_operation_key_idx": "journal_operation_key",
}


def named(name: str) -> str:
    """A table or an index of a month, by the name that it has for all months."""
    whole = _MONTH.sub("journal", name)
    return _INDEXES.get(whole, whole)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a plan, with tables and indexes of months by the names of the journal's. Months without a
    row are left out, for which any way is the shortest.
    """
    if plan["Node Type"] != "Seq Scan" or plan["Total Cost"] >= _PAGE:
        names = {each: named(plan[each]) for each in ("Relation Name", "Index Name") if each in plan}
        yield plan | names
    for each in plan.get("Plans", ()):
        yield from nodes(each)


def scans(plan: list[dict[str, Any]]) -> list[tuple[str, str | None, str | None]]:
    """Kind, table and index of every node."""
    return [(each["Node Type"], each.get("Relation Name"), each.get("Index Name")) for each in plan]


async def explained(
    connection: asyncpg.Connection, query: str, values: Sequence[object], how: str = ""
) -> list[dict[str, Any]]:
    """The nodes of the plan for these values. `how`: more options of EXPLAIN."""
    told = await connection.fetchval(f"EXPLAIN (FORMAT JSON{how}) {query}", *values)
    return list(nodes(json.loads(told)[0]["Plan"]))


async def explained_once(connection: asyncpg.Connection, query: str) -> list[dict[str, Any]]:
    """The nodes of the plan for any values, as connections have it that plan once."""
    values = ["NULL"] * max(int(each) for each in re.findall(r"\$(\d+)", query))
    async with connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = force_generic_plan; PREPARE once AS {query}")
        told = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE once({', '.join(values)})")
        await connection.execute("DEALLOCATE once")
    return list(nodes(json.loads(told)[0]["Plan"]))
