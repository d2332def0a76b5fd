"""What was answered, held against the journal: nothing acknowledged is missing, nothing is there twice, a
refusal has left nothing behind, nobody was shown a balance that never was or that was over already.

To be made when everything that was applied is journaled.
"""

from tests.chaos.storm.answers import KIND
from tests.chaos.storm.history import History, Row
from tests.chaos.storm.records import Applied, Book, Look, Record, Refused

_ENDED = {
    "reservation_cancelled": ("cancelled", "requested"),
    "reservation_confirmed": ("confirmed", ""),
    "reservation_expired": ("expired", ""),
}


class Audit:
    """Of a book against a history. What was checked is checked again only by `all_again`."""

    def __init__(self, book: Book, history: History) -> None:
        self._book = book
        self._history = history
        self._records = 0
        self._looks = 0
        self._rows = 0

    def check(self) -> None:
        """Everything that is new since the last time."""
        book = self._book
        for record in book.records[self._records :]:
            self._check(record)
        for look in book.looks[self._looks :]:
            self._check_look(look)
        for row in list(self._history.rows.values())[self._rows :]:
            self._check_row(row)
        self._records, self._looks, self._rows = (
            len(book.records),
            len(book.looks),
            len(self._history.rows),
        )

    def all_again(self) -> None:
        """Everything, also what was asked again or became known since."""
        self._records = self._looks = self._rows = 0
        self.check()

    def _check(self, record: Record) -> None:
        match record.outcome:
            case Applied() as applied:
                self._check_applied(record, applied)
            case Refused() as refused:
                self._check_refused(record, refused)

    def _check_applied(self, record: Record, applied: Applied) -> None:
        findings, told = self._book.findings, applied.transaction
        row = self._history.rows.get(told.id)
        if row is None:
            findings.lose(f"transaction {told.id} is not in the journal: {record.story()}")
            return
        asked = (KIND[record.verb], record.account, told.version, told.amount)
        if (row.kind, row.account, row.version, row.amount) != asked:
            findings.lose(f"transaction {told.id} is another one, {row}: {record.story()}")
        if (row.available, row.held) != (told.balance.available, told.balance.held):
            findings.add(f"transaction {told.id} was told with another balance than {row}: {record.story()}")
        if record.reservation:
            if row.reservation != record.reservation:
                findings.lose(f"transaction {told.id} ends another reservation, {row}: {record.story()}")
        elif (row.key, row.mark) != (record.key, record.mark):
            findings.lose(f"transaction {told.id} was made by another request, {row}: {record.story()}")
        elif row.version <= record.known_version:
            findings.add(
                f"transaction {told.id} is older than version {record.known_version}, which was known "
                f"before it was asked: {record.story()}"
            )
        shown = applied.balance
        if self._history.balance(record.account, shown.version) != (shown.available, shown.held):
            findings.add(f"a balance that never was, {shown}: {record.story()}")

    def _check_refused(self, record: Record, refused: Refused) -> None:
        findings, history = self._book.findings, self._history
        row = history.keys.get((record.subject, record.key)) if record.key else history.marks.get(record.mark)
        if row is not None:
            findings.add(f"refused, and in the journal as {row}: {record.story()}")
        if refused.code in _ENDED:
            end = history.endings.get(record.reservation)
            if end is None or (end.kind, end.cause) != _ENDED[refused.code]:
                findings.add(f"told of an ending that was not, it is {end}: {record.story()}")
        elif refused.available is not None:
            balances = history.accounts[record.account].balances[max(record.known_version, 1) :]
            if (refused.available, refused.held) not in balances:
                findings.add(f"refused for a balance that never was: {record.story()}")

    def _check_look(self, look: Look) -> None:
        if look.version < look.known_version:
            self._book.findings.add(f"a balance that was over already: {look}")
        elif self._history.balance(look.account, look.version) != (look.available, look.held):
            self._book.findings.add(f"a balance that never was: {look}")

    def _check_row(self, row: Row) -> None:
        """Nobody's request may be in the journal."""
        known = self._book.keys
        subjects = (row.account, row.reservation)
        if row.key and not any((subject, row.key) in known for subject in subjects):
            self._book.findings.add(f"nobody asked for {row}")
        if row.mark and row.mark not in self._book.marks:
            self._book.findings.add(f"nobody asked for {row}")
        if not (row.key or row.mark) and row.kind != "expired":
            self._book.findings.add(f"nobody asked for {row}")
