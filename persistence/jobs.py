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


def sweep() -> int:
    """Let what is due happen, where nobody touches it."""
    return bench.get().run(bench.get().sweep)
