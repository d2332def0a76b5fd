"""Where a process may be stopped between two steps of something that must survive that; tests do."""

from collections.abc import Awaitable, Callable

Barrier = Callable[[str], Awaitable[None]]
"""Called with the name of the step that was just done; tests stop a process there."""


async def past(_step: str) -> None:
    """The barrier of everyday."""
