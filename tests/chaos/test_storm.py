"""A short storm; and storms over ledgers with one rule broken, which find what they are there to find."""

import pytest

from tests.chaos.storm.faults import named
from tests.chaos.storm.storm import Plan, storm


# A connection that is being made to a PostgreSQL that is killed is left by asyncpg to the garbage collector.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
async def test_nothing_acknowledged_is_lost_or_done_twice_whatever_dies(reachable_tmp_path, nightly):
    faults = 60 if nightly else 8
    plan = Plan(faults=faults, seed=15, per_round=4, seconds_max=1.5, quiet_seconds_max=0.3)
    report = await storm(plan, reachable_tmp_path)
    assert report.good, report.account()
    assert (faults, 0, 0) == (report.faults.total(), report.book.findings.lost, report.book.findings.doubled)
    assert report.rows > 100


async def test_a_ledger_that_carries_a_repeated_call_out_again_is_found_out(reachable_tmp_path):
    lost = named("wire: answers lost, cut")
    # Only a lost answer to a call sent without a key shows it, and the storm ends where it is shown.
    plan = Plan(
        faults=400, seed=1, per_round=10, seconds_max=0.2, quiet_seconds_max=0.1, kinds=lost, broken="lanes"
    )
    report = await storm(plan, reachable_tmp_path)
    assert report.book.findings.doubled > 0
    assert "sent once, is in the journal twice" in report.account()


@pytest.mark.nightly("one broken ledger is enough for every day")
async def test_a_journal_that_is_trimmed_before_it_is_written_is_found_out(reachable_tmp_path):
    killed = named("kill -9 postgresql")
    report = await storm(Plan(faults=6, seed=1, kinds=killed, broken="trim"), reachable_tmp_path)
    assert report.book.findings.lost > 0
    assert "is fenced" in report.account()
