"""Old months of the journal on another disk: written anew in a tablespace, proved there, and put in the
place of the table that was.

A month that was put away stays a part of the journal. Keys of grants hold for ever, a confirm is replayed for
ever, a balance is the sum of all entries: whatever is answered must be the same afterwards, only slower.

fill     writes the rows anew, in the order of the chain: dense, and never to be cleaned up again
prove    walks along the chain of the copy, from the row before it to the row after it
settle   waits until the copy is as old as the table for everybody who is reading
place    detaches the old table and attaches the copy in one transaction, which reads no rows

Until the last step the journal is as it was, and whoever was killed goes on with the copy that there is. What
is written to the month meanwhile is copied, too, before it is put in place.
"""

from persistence.archiving.choosing import ArchiveRefused, chosen, tablespace_for
from persistence.archiving.moving import Moved, move
from persistence.archiving.tables import Unfinished, is_in, unfinished

__all__ = ["ArchiveRefused", "Moved", "Unfinished", "chosen", "is_in", "move", "tablespace_for", "unfinished"]
