"""Whatever is asked of the journal because the table may lack it walks along an index, and so does
clean-up.
"""

from datetime import UTC, datetime

import pytest

from persistence.backing import PostgresBacking
from persistence.cleaning import dropping
from persistence.inbox.retrying import READY
from persistence.projections import dropped
from persistence.restore.salvage import Salvage
from tests.integration.plans import explained
from tests.integration.reading.test_plans import FILL

ID = "cfcd2084-95d5-65ef-66e7-dff9f98764da"
WAITING = """
INSERT INTO webhook_inbox (provider, named, outcome, task, own, payload, status)
SELECT 'fal', 'named-' || n, 'succeeded', 'task-' || n, md5(n::text)::uuid::text, '{}', 'waiting'
FROM generate_series(0, 999) n;
ANALYZE;
"""
ASKED = {
    "a reservation by its entries": (dropped.ENTRIES, ([ID],), "journal_reservation"),
    "tasks": (PostgresBacking.TASKS, (["fal", None], ["task-1", "task-2"]), "journal_task"),
    "an earlier reservation of a task": (
        PostgresBacking.ANSWERED_TO["r"], ([ID], ["key"], ["print"], [0]), "journal_task"
    ),
    "callbacks that wait": (READY, (2**62, 20_000, 10.0), "journal_task"),
    "callbacks that wait, by id": (READY, (2**62, 20_000, 10.0), "journal_reservation"),
    "whether a task is bound": (Salvage.BOUND, (ID, "task-1"), "journal_reservation"),
    "what is old": (dropping.DROP, (datetime(2026, 1, 2, tzinfo=UTC), 500), "reservations_settled"),
    "how much is old": (dropping.OLD, (datetime(2026, 1, 2, tzinfo=UTC),), "reservations_settled"),
}  # fmt: skip


@pytest.fixture
async def filled(database):
    async with database.acquire() as connection:
        await connection.execute(FILL)
        await connection.execute(WAITING)
        yield connection


async def test_no_question_reads_a_table_through(filled):
    for what, (statement, values, index) in ASKED.items():
        plan = await explained(filled, statement, values)
        read = {each["Relation Name"] for each in plan if each["Node Type"] == "Seq Scan"}
        assert not read & {"journal", "reservations"}, (what, read)
        assert index in {each.get("Index Name") for each in plan}, what
