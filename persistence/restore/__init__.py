"""A Redis made again from the journal, in seven steps, of which each may be the last one for a while.

1 claims the fenced shards, 2 drains what still continues the journal, 3 salvages what does not, 4 removes
what is left, 5 loads, 6 compares, 7 opens. Whoever was killed begins again: a claimed shard stays
claimed, and no call is let in before step 7. Shards that are not fenced are neither touched nor held up.
"""

from persistence.restore.claim import Claim, RestoreRefused
from persistence.restore.run import Restored, Shard, Watch, restore
from persistence.restore.salvage import Orphan

__all__ = ["Claim", "Orphan", "RestoreRefused", "Restored", "Shard", "Watch", "restore"]
