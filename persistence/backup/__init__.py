"""The journal in files: exported, proved, brought into a fresh ledger."""
