"""A born ledger, and workers and cron as processes: those of the jobs' tests."""

from tests.integration.jobs.conftest import ledger, processes, queues, work

__all__ = ["ledger", "processes", "queues", "work"]
