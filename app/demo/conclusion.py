"""What is said at the end, a sentence each."""

from collections.abc import Iterator

from app.demo.audit import Books
from app.demo.tally import Tally
from app.demo.traffic import Traffic

_NAMED_MAX = 10


def conclusion(books: Books, tally: Tally, traffic: Traffic) -> Iterator[tuple[str, str]]:
    """Sentences and their styles: that all is well, or what is not and in which account."""
    if tally.found or books.differences:
        yield from _amiss(books, tally)
        return
    yield f"every credit is accounted for: {_sums(books)}", "bold green"
    yield from ((sentence, "") for sentence in _well(books, tally, traffic))


def _well(books: Books, tally: Tally, traffic: Traffic) -> Iterator[str]:
    yield (
        f"in {books.accounts:,} accounts, {books.transactions:,} transactions and {books.reservations:,} "
        f"reservations, of which {books.charged:,} were charged, once each"
    )
    yield (
        f"{tally.twice:,} were confirmed twice at the same instant: one transaction each; "
        f"{tally.races:,} confirmed and cancelled at the same instant: one ending each"
    )
    yield (
        f"{traffic.repeated:,} requests were repeated under their keys; {traffic.done_already:,} of them had "
        "been done already, and were not done again"
    )


def _amiss(books: Books, tally: Tally) -> Iterator[tuple[str, str]]:
    sentences = [*tally.findings, *books.differences]
    for sentence in sentences[:_NAMED_MAX]:
        yield sentence, "red"
    more = tally.found + len(books.differences) - min(len(sentences), _NAMED_MAX)
    if more:
        yield f"... and {more:,} more", "red"
    yield f"not every credit is accounted for: {_sums(books)}", "bold red"


def _sums(books: Books) -> str:
    return (
        f"{books.granted:,} granted = {books.available:,} available + {books.held:,} held + "
        f"{books.spent:,} spent + {books.lapsed:,} lapsed"
    )
