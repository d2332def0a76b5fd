"""Backups, proofs, erasure."""
