"""Redis made again from the journal."""
