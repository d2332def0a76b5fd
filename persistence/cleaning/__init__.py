"""Clean-up: ends what is due, and drops what was settled long ago from the table `reservations`.

Nothing is lost by that: whoever reads a reservation finds it by its entries
(`persistence.projections.dropped`), a task by the entries that bound it (`persistence.binding`). The order of
the steps is the promise: first it is said from which moment on reservations must be there
(`cleanup.kept_from`), then rows leave, batch by batch, each with its ending in the journal. So whoever
compares, repairs or restores knows at any moment which rows may be absent, and a clean-up may be killed
between any two of its steps.
"""
