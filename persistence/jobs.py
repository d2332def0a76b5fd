"""The doors through which RQ comes in. The rooms behind them are the methods of `Workbench` and
its shifts.

A job is named by what it does and takes no arguments: queues hold neither addresses nor passwords.
"""

from contextvars import ContextVar
from functools import partial

from persistence.workbench import Workbench

JOURNAL_QUEUE = "lastro-journal"
TASKS_QUEUE = "lastro-tasks"

bench: ContextVar[Workbench] = ContextVar("bench")
"""The workbench of this worker; set by `work.run_worker` in the thread that runs jobs."""


def _call_for(job: str) -> None:
    bench.get().run(partial(bench.get().call_for, job))


def journal() -> int:
    """Drain the streams into PostgreSQL for a slice of time."""
    return bench.get().run(bench.get().journal)


def alerts() -> None:
    """Have what is watched judged, and told when it goes wrong."""
    _call_for("alerts")


def ask() -> None:
    """Have providers asked of whose tasks nothing is heard."""
    _call_for("ask")


def backup() -> bool:
    """Take the backup that is due, for a slice of time."""
    return bench.get().run(bench.get().backup)


def cleanup() -> None:
    """Have clean-up done when it is due."""
    _call_for("cleanup")


def events() -> None:
    """Have what happens told to whom it interests."""
    _call_for("events")


def monitoring() -> None:
    """Have what the journal has got counted."""
    _call_for("monitoring")


def months() -> int:
    """Make the next months of the journal. Returns how many it made."""
    return bench.get().run(bench.get().months)


def reconcile() -> bool:
    """Compare Redis with the journal for a slice of time, when it is due or somebody asked for it."""
    return bench.get().run(bench.get().reconcile)


def sweep() -> int:
    """Let what is due happen, where nobody touches it."""
    return bench.get().run(bench.get().sweep)


def webhooks() -> int:
    """Try again what stands in the inbox of webhooks, and let go of what is too old."""
    return bench.get().run(bench.get().webhooks)
