"""Redis against the journal: what differs is named, and put right by what the journal says.

Nothing here moves credits. `run` walks along everything, `page` compares exactly under load, `sums` adds up
the entries, `repair` puts right, `adopt` goes on after PostgreSQL has lost what Redis no longer has.
"""
