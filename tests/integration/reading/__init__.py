"""Tests of those who read the past: exports, balances as of a moment, statements, searches."""
