"""Lines of the journal, as pages show them."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from app.ledger.entries import Entry, Notes
from app.reports import Transaction

_notes = msgspec.json.Decoder(Notes).decode
_NOTHING = Notes(salt="")


class Line(Struct, frozen=True):
    """An entry, its name, and the text beside it, which is empty where there is none or it was erased."""

    id: str
    entry: Entry
    notes: Notes


def lines(found: Iterable[Transaction]) -> list[Line]:
    """In the order in which they come."""
    return [
        Line(str(each.id), each.entry, _NOTHING if each.notes is None else _notes(each.notes))
        for each in found
    ]
