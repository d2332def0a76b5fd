"""A born ledger with a past, its journal, and what compares and repairs it."""

from tests.integration.reconcile.conftest import (
    caller,
    connection,
    hands,
    kept,
    ledger,
    past,
    place,
    reconcile,
    repair,
    worker,
)
from tests.integration.restore.conftest import restored, salvaging

__all__ = [
    "caller", "connection", "hands", "kept", "ledger", "past", "place", "reconcile", "repair", "restored",
    "salvaging", "worker",
]  # fmt: skip
