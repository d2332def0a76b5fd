"""`lastro top`: how the ledger is, in a terminal. It knows the ledger over HTTP only."""
