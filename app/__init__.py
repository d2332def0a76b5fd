"""Lastro: the ledger of prepaid credits for AI products."""
