"""HTTP in, engine call, HTTP out. Knows the ledger and what `main` plugs in; knows nothing of SQL."""
