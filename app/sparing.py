"""Lines of a log under load: so many a second, and the next one says how many were kept back."""

from time import monotonic


class Sparing:
    """Lets `per_second` through. `kept_back` counts the others, since the process began."""

    __slots__ = ("_left", "_said", "_until", "kept_back", "per_second")

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second
        self.kept_back = 0
        self._said = 0
        self._left = per_second
        self._until = 0.0

    def lets_through(self) -> bool:
        """Whether there is room for one more line in this second."""
        now = monotonic()
        if now >= self._until:
            self._until, self._left = now + 1, self.per_second
        if self._left:
            self._left -= 1
            return True
        self.kept_back += 1
        return False

    def since_last(self) -> int:
        """How many were kept back since this was asked last."""
        count, self._said = self.kept_back - self._said, self.kept_back
        return count
