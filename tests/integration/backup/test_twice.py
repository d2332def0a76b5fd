"""A row that stands in two months is found by whoever goes along the journal (I11)."""

import pytest

from persistence.backup import snapshot
from persistence.backup.manifest import BackupRefused
from persistence.reconcile import ends
from persistence.verify import verify

AGAIN = """
SELECT make_journal_months(ARRAY(SELECT at + interval '1 month' FROM journal));
INSERT INTO journal
  SELECT shard, seq, incarnation, at + interval '1 month', kind, account, version, amount, available, held,
    reservation, task, model, operation_key, by, entry, hash FROM journal WHERE shard = 1 AND seq = {}
"""


@pytest.mark.parametrize("which", ["5", "(SELECT cursor FROM shards WHERE shard = 1)"])
async def test_a_row_that_stands_in_another_month_too_is_found(connection, which):
    sequence = await connection.fetchval(f"SELECT {which}")
    await connection.execute(AGAIN.format(which))
    (finding,) = (await verify(connection, since=1)).findings
    assert (finding.shard, finding.sequence) == (1, sequence)
    # The second of the two, or the one whose time is not its entry's.
    assert finding.what in ("added", "changed")
    cursor = await connection.fetchval("SELECT cursor FROM shards WHERE shard = 1")
    assert await ends.gap(connection, 1, 0, cursor) is not None
    rows = await snapshot.read(connection, 1, 1, cursor)
    with pytest.raises(BackupRefused, match="shard 1"):
        snapshot.lines(1, 1, cursor, bytes(32), rows)
