"""The doors through which RQ comes in. The rooms behind them are the methods of `Workbench`.

A job is named by what it does and takes no arguments: queues hold neither addresses nor passwords.
"""

from contextvars import ContextVar

from persistence.workbench import Workbench

JOURNAL_QUEUE = "lastro-journal"
TASKS_QUEUE = "lastro-tasks"

bench: ContextVar[Workbench] = ContextVar("bench")
"""The workbench of this worker; set by `work.run_worker` in the thread that runs jobs."""


def journal() -> int:
    """Drain the streams into PostgreSQL for a slice of time."""
    return bench.get().run(bench.get().journal)


def alerts() -> None:
    """Have what is watched judged, and told when it goes wrong."""
    return bench.get().run(bench.get().alerts)


def ask() -> None:
    """Have providers asked of whose tasks nothing is heard."""
    return bench.get().run(bench.get().ask)


def backup() -> bool:
    """Take the backup that is due, for a slice of time."""
    return bench.get().run(bench.get().backup)


def cleanup() -> None:
    """Have clean-up done when it is due."""
    return bench.get().run(bench.get().cleanup)


def events() -> None:
    """Have what happens told to whom it interests."""
    return bench.get().run(bench.get().events)


def monitoring() -> None:
    """Have what the journal has got counted."""
    return bench.get().run(bench.get().monitoring)


def reconcile() -> bool:
    """Compare Redis with the journal for a slice of time, when it is due or somebody asked for it."""
    return bench.get().run(bench.get().reconcile)


def sweep() -> int:
    """Let what is due happen, where nobody touches it."""
    return bench.get().run(bench.get().sweep)


def webhooks() -> int:
    """Try again what stands in the inbox of webhooks, and let go of what is too old."""
    return bench.get().run(bench.get().webhooks)
