"""Conditions of a question, put together piece by piece."""


class Conditions:
    """All of them must hold. Each is SQL with `{}` in the place of each of its values, which are numbered in
    the end.
    """

    def __init__(self) -> None:
        self.values: list[object] = []
        self._texts: list[str] = []

    def add(self, text: str, *values: object) -> None:
        """One more, with its values in order."""
        self._texts.append(text)
        self.values += values

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._texts)

    def numbered(self, first: int) -> str:
        """The text of all, in which `values` are `$first` and so on."""
        places = (f"${number}" for number in range(first, first + len(self.values)))
        return " AND ".join(self._texts).format(*places) or "true"
