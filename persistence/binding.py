"""Which entries bind a task to a reservation: there a task is looked for, for as long as there is a journal.

The table `reservations` has only what clean-up has not dropped.
"""


def binds(of: str) -> str:
    """Whether a row of `journal` that a statement knows as `of` binds its task, as the index `journal_task`
    has it.
    """
    return f"{of}.task IS NOT NULL AND {of}.kind IN ('reserved', 'bound', 'adjusted')"
