"""Monitoring: entries are counted once, behind the journal, and questions are answered from the sums.

`counting` moves the sums, `snapshots` looks at what is seen as a whole, `reach` says how far all that has
come; `following` does it beside a worker's jobs. `reports` answers.
"""

from persistence.monitoring.reports import PostgresMonitoring

__all__ = ["PostgresMonitoring"]
