"""Compares some accounts of a shard, exactly, whatever moves meanwhile.

First a snapshot of PostgreSQL gives each account at some version; then Redis is looked at, each group of
accounts in one moment with the shard's sequence; then PostgreSQL is waited for to have that sequence; at
last the entries between the two versions are folded onto the snapshot. What comes out is what the journal
says of the very moment at which Redis was seen, so nothing that is under way can look like drift, and
nothing has to be looked at again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import asyncpg
import msgspec
from msgspec import Struct

from app.ledger.entries import Entry
from persistence import rebuild
from persistence.folding import Contradiction
from persistence.pool import Connection
from persistence.reconcile import drift, sums
from persistence.reconcile.drift import Drift
from persistence.reconcile.sides import Sides, wait
from persistence.reconcile.sighting import Sighting, examine
from persistence.reconcile.state import State, is_reservation_id

_decode = msgspec.json.Decoder(Entry).decode


class Page(Struct, frozen=True):
    """What is compared at once.

    Args:
        accounts: Of one shard, known to one of the two sides, or to none.
        more: Reservations by account that are compared though they may have ended.
        add_up: Those of which all entries are added up too, which costs as much as there are entries.
    """

    accounts: Sequence[str]
    more: Mapping[str, Sequence[str]] = {}
    add_up: Sequence[str] = ()

    def halves(self) -> "Iterator[Page]":
        middle = len(self.accounts) // 2
        for half in (self.accounts[:middle], self.accounts[middle:]):
            yield Page(
                half,
                {each: self.more[each] for each in half if each in self.more},
                [each for each in self.add_up if each in half],
            )


class Compared(Struct):
    """What came of comparing a page."""

    accounts: int
    drift: list[Drift]
    totals: sums.Totals


class Looked(Struct):
    """An account as it was seen in Redis, and its state in the journal at that moment. `known`: the version
    that the snapshot had; `fault`: where the journal contradicts itself, so that the state says nothing.
    """

    state: State
    known: int
    sighting: Sighting
    fault: Drift | None = None


SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"


async def compare(sides: Sides, page: Page) -> Compared:
    """The differences of a page.

    Raises:
        NotExaminable: This Redis is not the one that was admitted.
        Behind: PostgreSQL did not get what Redis has.
    """
    connection = sides.connection
    async with connection.transaction():
        await connection.execute(SNAPSHOT)
        states = await _states(connection, sides.place.shard, page.accounts, page.more)
        found, totals = await sums.faults(connection, {each: states[each] for each in page.add_up})
    for each in await _looked(sides, states, page.more):
        found.extend(differences(each))
    return Compared(len(page.accounts), found, totals)


UNREADABLE = (asyncpg.DataError, msgspec.MsgspecError, Contradiction)


async def compare_readable(sides: Sides, page: Page) -> Compared:
    """The same; a row that PostgreSQL cannot even read does not hide the others: the page is halved around
    it.
    """
    try:
        return await compare(sides, page)
    except UNREADABLE as error:
        if len(page.accounts) == 1:
            drift = Drift(page.accounts[0], "journal.entry", f"unreadable: {error}"[:200], None)
            return Compared(1, [drift], sums.Totals())
    both = Compared(len(page.accounts), [], sums.Totals())
    for half in page.halves():
        compared = await compare_readable(sides, half)
        both.totals.add(compared.totals)
        both.drift += compared.drift
    return both


async def look(sides: Sides, account: str, more: Sequence[str] = ()) -> Looked:
    """One account, for whoever has to put it right; otherwise as `compare`."""
    named = {account: more}
    async with sides.connection.transaction():
        await sides.connection.execute(SNAPSHOT)
        states = await _states(sides.connection, sides.place.shard, [account], named)
    return (await _looked(sides, states, named))[0]


async def _looked(
    sides: Sides, states: Mapping[str, State], more: Mapping[str, Sequence[str]]
) -> list[Looked]:
    # Also those that are open in the snapshot: the account's holds may lack them.
    wanted = {
        account: [*more.get(account, ()), *(each.id for each in state.open)]
        for account, state in states.items()
    }
    sightings = await examine(sides.redis, sides.place, list(states), wanted)
    await wait(sides, max((each.sequence for each in sightings.values()), default=0))
    under_way = {
        account: Looked(state, state.account.version, sightings[account]) for account, state in states.items()
    }
    await catch_up(sides.connection, sides.place.shard, under_way)
    return list(under_way.values())


AT_HOME = "SELECT account FROM accounts WHERE account = ANY($1) AND shard = $2"


async def _states(
    connection: Connection, shard: int, accounts: Sequence[str], more: Mapping[str, Sequence[str]]
) -> dict[str, State]:
    """What is at home in another shard has nothing in this one."""
    at_home = [row["account"] for row in await connection.fetch(AT_HOME, list(accounts), shard)]
    known = await rebuild.accounts(connection, at_home)
    opened = await rebuild.open_reservations_of(connection, list(known))
    asked = [id_ for ids in more.values() for id_ in ids if is_reservation_id(id_)]
    others = await rebuild.reservations(connection, asked) if asked else {}
    states = {}
    for account in accounts:
        if account not in known:
            states[account] = State.of_nothing(account, shard)
            continue
        its = [others[id_] for id_ in more.get(account, ()) if id_ in others]
        its = [each for each in its if each.account == account]
        states[account] = State.of(account, shard, known[account], [*its, *opened[account]])
    return states


BETWEEN = """
SELECT j.account, j.version, j.shard, j.seq, j.available, j.held, j.entry
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS wanted (account, first, last)
JOIN journal j ON j.account = wanted.account AND j.version >= wanted.first
  AND (j.shard <> $4 OR j.seq <= wanted.last)
ORDER BY j.account, j.version
"""


async def catch_up(connection: Connection, shard: int, under_way: Mapping[str, Looked]) -> None:
    """Hold each snapshot against the row of its version, and fold what came after it, up to the sequence at
    which Redis was seen: not up to the version that it showed, which may be an older one that somebody put
    back.
    """
    firsts = [max(1, each.known) for each in under_way.values()]
    lasts = [each.sighting.sequence for each in under_way.values()]
    reached: dict[str, int] = {}
    async with connection.transaction(readonly=True):
        async for account, version, home, sequence, available, held, entry in connection.cursor(
            BETWEEN, list(under_way), firsts, lasts, shard, prefetch=2_000
        ):
            each = under_way[account]
            if home != shard:
                if each.known and each.fault is None:
                    each.fault = Drift(account, "projection.shard", shard, home)
                continue
            reached[account] = version
            if each.fault is None and version > each.known:
                _fold(each, entry, sequence)
            if each.fault is None:
                each.fault = _column_fault(each.state, version, available, held)
    fresh = [name for name, each in under_way.items() if not each.known and each.state.account.version]
    projected = {row["account"] for row in await connection.fetch(AT_HOME, fresh, shard)} if fresh else set()
    for account, each in under_way.items():
        if each.fault is not None:
            continue
        if each.known and account not in reached:
            each.fault = Drift(account, "journal.version", None, each.known)
        elif account in fresh and account not in projected:
            each.fault = Drift(account, "projection.account", None, each.state.account.version)


def _fold(each: Looked, text: str, sequence: int) -> None:
    name = each.state.account.id
    try:
        entry = _decode(text)
        each.state.fold(entry, sequence)
    except (Contradiction, msgspec.MsgspecError) as error:
        each.fault = Drift(name, f"journal.{sequence}", f"entry {sequence} {error}", None)


def _column_fault(state: State, version: int, available: int, held: int) -> Drift | None:
    account = state.account
    for field, found, expected in (("available", available, account.available), ("held", held, account.held)):
        if found != expected:
            return Drift(account.id, f"journal.{version}.{field}", found, expected)
    return None


def differences(each: Looked) -> Iterable[Drift]:
    """Where an account is not what the journal says. A journal that contradicts itself says nothing."""
    if each.fault is not None:
        yield each.fault
        return
    account = each.state.account
    if account.version == 0:
        if each.sighting.text:
            found = drift.decoded_account(each.sighting.text)
            yield Drift(account.id, "account", f"version {found.version}" if found else "unreadable", None)
        yield from drift.of_strays(account.id, each.sighting)
        return
    yield from _of_projection(each)
    yield from drift.of_account(each.sighting, each.state)


def _of_projection(each: Looked) -> Iterable[Drift]:
    """An account is the sum of its lots, and holds what its open reservations hold."""
    account = each.state.account
    for field, found, expected in (
        ("available", account.available, sum(lot.available for lot in account.lots)),
        ("held", account.held, sum(lot.held for lot in account.lots)),
        ("held", account.held, sum(reservation.held for reservation in each.state.open)),
    ):
        if found != expected:
            yield Drift(account.id, f"projection.{field}", found, expected)
            return
