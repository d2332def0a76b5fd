"""Whoever looks on while a restore is at work."""

from app.ledger.judgement import Standing

STEPS = [f"after {step}" for step in ["claim", "proof", "drain", "salvage", "removal", "load", "comparison"]]
"""What a barrier is told, in order."""


class Looking:
    """Says yes or no once, and keeps what it was told."""

    def __init__(self, *, agrees: bool = True) -> None:
        self.steps: list[str] = []
        self.done = 0
        self._agrees = agrees

    async def claimed(self, standings: list[Standing]) -> bool:
        assert standings
        return self._agrees

    def step(self, name: str, total: int = 0) -> None:
        self.steps.append(name)

    def advance(self, by: int) -> None:
        self.done += by
