"""A Redis made again from the journal, in steps, of which each may be the last one for a while.

claim    takes the fenced shards for itself
prove    holds PostgreSQL's tables of them against their entries
drain    journals what Redis still has and continues the journal
salvage  keeps what does not
remove   removes their keys
load     fills them from the journal
compare  reads back what was loaded
open     lets calls in

Whoever was killed begins again: a claimed shard stays claimed, and no call is let in before `open`. Shards
that are not fenced are neither touched nor held up.
"""

from persistence.restore.claim import Claim, RestoreRefused
from persistence.restore.run import Restored, Shard, Watch, restore
from persistence.restore.salvage import Orphan

__all__ = ["Claim", "Orphan", "RestoreRefused", "Restored", "Shard", "Watch", "restore"]
