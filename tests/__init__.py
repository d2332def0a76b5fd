"""What the ledger promises, as tests."""
