"""Goes on after PostgreSQL lost entries that Redis' stream no longer has.

PostgreSQL ends at its cursor C; the first call that Redis' stream still has from its beginning starts at
entry F, after C + 1; Redis has counted to S. What happened in C + 1 .. F - 1 is lost for good, but what it
came to is not: Redis' state now, with the entries from F on taken back, is the state at F - 1. So every lost
entry is replaced, in its own place, by an entry `adjusted`, which together lead from what PostgreSQL has at
C to what Redis had at F - 1. Then F .. S are journaled like every day.

Why no promise breaks:

- Each lost entry had one sequence of the shard and one version of one account. The versions that Redis'
  accounts are ahead must therefore be exactly as many as the sequences that are missing. If they are not,
  Redis does not go on from what PostgreSQL has, and nothing is written. So sequences stay 1, 2, 3 ... and
  versions too (unique as ever), and the cursor does not jump: it moves over rows that are there. - The chain
  of hashes goes on over those rows from the head that PostgreSQL has. The rows carry the nonce of the call
  before F, the first of them names the call of the cursor: the links are whole, and the worker and the
  admission find at F what they demand. - The legs of an account's first entry bring what is available, its
  sum is the entry's signed amount; a reservation that was opened or ended meanwhile has an entry of its own,
  at the very sequence at which Redis says that it was, which moves what is held. Each entry proves itself,
  conservation holds with `adjusted`, and a reservation's legs are found where they always are. An account's
  last entry carries its lots word for word: the order in which they are spent is nothing that legs tell. - A
  receipt names sequence and incarnation. The rows have a number that was never given, so that the receipt of
  a lost entry names nothing rather than a stranger's entry; and a repeated request whose first answer was
  lost is answered 503, never by what has taken its place. - Redis is not written to. The shard refuses
  before and after; only `unfence`, which judges it again under the lock, opens it. Rows, projections and
  cursor are one transaction, which names the cursor that was read: killed anywhere, it has happened or not,
  and can be begun again.

What is lost for good is told: which sequences of which shard, and of which accounts; the texts of the
beginning of a call that the stream has only in part are kept in `orphans`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis

from app.ledger import keys
from app.ledger.admission import Sighting, Standing, survey
from app.ledger.connection import connect as connect_redis
from app.ledger.entries import FORMAT, Entry, Leg, Stands, seal
from app.ledger.replies import Account, Lot, Reservation
from app.ledger.stream import Line
from persistence import rebuild
from persistence.admission import admit
from persistence.admission_steps import Barrier, past
from persistence.fences import unfence
from persistence.pool import Connection, open_pool
from persistence.projections import Projections
from persistence.readable import as_text
from persistence.reconcile.lost import NotAdoptable, Then, before
from persistence.rows import JOURNAL, NOTES, rows_of
from persistence.session import connect
from persistence.standings import read_standings

ACCOUNTS_NAMED_MAX = 20


class Loss(Struct, frozen=True):
    """What PostgreSQL and Redis' stream lack of a shard: `first` to `last`; Redis has `sequence`."""

    shard: int
    first: int
    last: int
    sequence: int

    @property
    def sentence(self) -> str:
        return (
            f"shard {self.shard}: entries {self.first} to {self.last} are lost in PostgreSQL, and Redis' "
            f"stream no longer has them; it goes on to {self.sequence}."
        )


class Adopted(Struct, frozen=True):
    """What was done for a shard. `still`: why it still refuses, if it does."""

    loss: Loss
    accounts: list[str]
    still: str | None

    @property
    def sentence(self) -> str:
        some = ", ".join(self.accounts[:ACCOUNTS_NAMED_MAX])
        more = len(self.accounts) - ACCOUNTS_NAMED_MAX
        named = some + (f" and {more} more" if more > 0 else "")
        entries = self.loss.last - self.loss.first + 1
        state = f"It still refuses: {self.still}" if self.still else "It is open again."
        return (
            f"shard {self.loss.shard}: {entries} lost entries of {len(self.accounts)} accounts ({named}) "
            f"were replaced by adjustments to what Redis has. {state}"
        )


async def losses(database_url: str, redis_url: str) -> list[Loss]:
    """The shards that can be gone on with by `adopt` only."""
    connection = await connect(database_url, name="lastro adopt")
    try:
        async with connect_redis(redis_url) as redis:
            return [loss for _, _, loss in await _losses(connection, redis)]
    finally:
        await connection.close()


LEDGER = "SELECT id::text AS id FROM ledger WHERE born"


async def _losses(connection: Connection, redis: Redis) -> list[tuple[Standing, Sighting, Loss]]:
    ledger = await connection.fetchval(LEDGER)
    standings = await read_standings(connection)
    found = []
    for standing, sighting in zip(standings, await survey(redis, ledger, standings), strict=True):
        if not sighting.sequence.isdecimal() or sighting.journal_type not in ("stream", "none"):
            continue
        cursor, sequence = standing.cursor, int(sighting.sequence)
        if sequence <= cursor or sighting.next_id == f"{cursor + 1}-0":
            continue
        first = sighting.next_id.partition("-")[0]
        last = int(first) - 1 if first else sequence
        found.append((standing, sighting, Loss(standing.shard, cursor + 1, last, sequence)))
    return found


async def adopt(database_url: str, redis_url: str, by: str, *, barrier: Barrier = past) -> list[Adopted]:
    """Go on from what Redis has, in every shard that `losses` names. Begun again, it does what is left.

    Args:
        database_url: Of a born ledger.
        redis_url: The one that shall be gone on with.
        by: Who wants it; stands in every entry.
        barrier: `after look`, `after commit`.

    Raises:
        NotAdoptable: Redis does not go on from what PostgreSQL has. Shards before that one are done.
    """
    done = []
    async with (
        await open_pool(database_url, connections_max=3, name="lastro adopt") as pool,
        connect_redis(redis_url) as redis,
    ):
        connection = await connect(database_url, name="lastro adopt")
        try:
            await admit(pool, redis)  # judges what nobody has looked at yet
            for standing, sighting, _ in await _losses(connection, redis):
                if standing.fence is None:
                    continue  # it was moving while it was looked at
                await barrier("after look")
                done.append(await _adopt(connection, redis, standing, sighting, by))
                await barrier("after commit")
        finally:
            await connection.close()
        if not done:
            return []
        shards = [loss.shard for loss, _ in done]
        opening = await unfence(pool, redis, shards, f"what Redis has was adopted by {by}")
    return [Adopted(loss, accounts, opening.stays.get(loss.shard)) for loss, accounts in done]


ADVANCE = """
UPDATE shards SET cursor = $3, bytes = $4, link = $5, head = $6, incarnation = $7, journaled_at = now()
WHERE shard = $1 AND cursor = $2 RETURNING shard
"""

HEAD = "SELECT head FROM shards WHERE shard = $1 FOR UPDATE"

ACCOUNTS = "SELECT account FROM accounts WHERE shard = $1"

ORPHAN = """
INSERT INTO orphans (shard, seq, entry, notes, why, sha256) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (shard, seq, sha256) DO NOTHING
"""


async def _adopt(
    connection: Connection, redis: Redis, standing: Standing, sighting: Sighting, by: str
) -> tuple[Loss, list[str]]:
    shard, cursor, sequence = standing.shard, standing.cursor, int(sighting.sequence)
    meta: Any = await redis.hmget(keys.meta(shard), ["bytes", "now_ms"])
    size, now_ms = int(meta[0] or 0), int(meta[1] or 0)
    then = await before(redis, shard, cursor, sequence=sequence, link=sighting.link, now_ms=now_ms)
    loss = Loss(shard, cursor + 1, then.first - 1, sequence)
    incarnation = max(standing.incarnation, int(sighting.incarnation)) + 1
    async with connection.transaction():
        head: bytes = await connection.fetchval(HEAD, shard)
        entries = _Entries(loss, then, standing.link, incarnation, f"operator:{by}")
        ids = [row["account"] for row in await connection.fetch(ACCOUNTS, shard)]
        known = await rebuild.accounts(connection, ids)
        opened = await rebuild.open_reservations_of(connection, ids)
        lines = entries.replace(known, {each.id: each for its in opened.values() for each in its})
        rows, notes, head = rows_of(shard, head, lines)
        projections = Projections(shard)
        await projections.load(connection, lines)
        projections.fold(lines)
        await connection.copy_records_to_table("journal", records=rows, columns=JOURNAL)
        await connection.copy_records_to_table("notes", records=notes, columns=NOTES)
        await projections.store(connection)
        done = await connection.fetchval(
            ADVANCE, shard, cursor, loss.last, size - then.bytes, then.link, head, incarnation
        )
        if done is None:
            raise NotAdoptable(f"The journal of shard {shard} moved meanwhile; look again.")
        await _keep_orphans(connection, redis, loss)
    return loss, sorted({line.entry.account for line in lines})


async def _keep_orphans(connection: Connection, redis: Redis, loss: Loss) -> None:
    """The part of a call whose beginning the stream has lost."""
    found: Any = await redis.xrange(keys.journal(loss.shard), f"{loss.first}-0", f"{loss.last}-0")
    for entry_id, fields in found:
        sequence, notes = int(entry_id.split(b"-")[0]), fields.get(b"notes")
        entry = fields.get(b"entry", b"")
        await connection.execute(
            ORPHAN,
            loss.shard,
            sequence,
            as_text(entry),
            None if notes is None else as_text(notes),
            "The beginning of its call was lost; what it came to was adopted.",
            sha256(entry).digest(),
        )


_encode = msgspec.json.Encoder().encode


class _Entries:
    """Makes the entries that take the places of lost ones."""

    def __init__(self, loss: Loss, then: Then, link: str, incarnation: int, by: str) -> None:
        self._loss = loss
        self._then = then
        self._link = link
        self._incarnation = incarnation
        self._by = by

    def replace(self, known: dict[str, Account], opened: dict[str, Reservation]) -> list[Line]:
        """All of them, in order.

        Args:
            known: What PostgreSQL has of the shard's accounts.
            opened: What reservations it has open.

        Raises:
            NotAdoptable: The two do not belong to one history.
        """
        loss, then = self._loss, self._then
        ahead: dict[str, int] = {}
        for name in known.keys() | then.accounts.keys():
            ours, theirs = known.get(name), then.accounts.get(name)
            missing = (theirs.version if theirs else 0) - (ours.version if ours else 0)
            if missing < 0 or (missing == 0 and _sums(ours) != _sums(theirs)):
                raise NotAdoptable(
                    f"Redis does not go on from what PostgreSQL has of {name}: another history. "
                    "Restore instead."
                )
            if missing:
                ahead[name] = missing
        places = loss.last - loss.first + 1
        if sum(ahead.values()) != places:
            raise NotAdoptable(
                f"{places} entries of shard {loss.shard} are missing, and its accounts are "
                f"{sum(ahead.values())} versions ahead: Redis does not go on from what PostgreSQL has."
            )
        placed = self._placed(ahead, opened)
        lines: dict[int, Line] = {}
        for name, its in placed.items():
            for line in self._of_account(name, its, known.get(name), opened):
                lines[line.sequence] = line
        return self._linked([lines[sequence] for sequence in range(loss.first, loss.last + 1)])

    def _placed(
        self, ahead: dict[str, int], opened: dict[str, Reservation]
    ) -> dict[str, dict[int, Reservation | None]]:
        """Which account has which sequences: where Redis remembers a reservation's, that one."""
        loss, then = self._loss, self._then
        placed = self._remembered(ahead)
        taken = {place for its in placed.values() for place in its}
        forgotten: dict[str, list[Reservation]] = defaultdict(list)
        for each in opened.values():
            if each.id not in then.reservations:
                forgotten[each.account].append(_forgotten(each, then.at_ms))
        free = (place for place in range(loss.first, loss.last + 1) if place not in taken)
        for name, count in ahead.items():
            for _ in range(count - len(placed[name])):
                place = next(free)
                ended = forgotten[name].pop() if forgotten[name] else None
                placed[name][place] = ended and msgspec.structs.replace(ended, ended_sequence=place)
        if any(forgotten.values()):
            raise NotAdoptable("More reservations have ended than entries are missing: another history.")
        return placed

    def _remembered(self, ahead: dict[str, int]) -> dict[str, dict[int, Reservation | None]]:
        loss = self._loss
        placed: dict[str, dict[int, Reservation | None]] = {name: {} for name in ahead}
        taken: set[int] = set()
        for each in self._then.reservations.values():
            place = _place(each, loss.first)
            if place is None or not loss.first <= place <= loss.last:
                continue
            if place in taken or len(placed.get(each.account, ())) >= ahead.get(each.account, 0):
                raise NotAdoptable(f"Reservation {each.id} of {each.account} does not fit what is missing.")
            placed[each.account][place] = each
            taken.add(place)
        return placed

    def _of_account(
        self,
        name: str,
        placed: dict[int, Reservation | None],
        known: Account | None,
        opened: dict[str, Reservation],
    ) -> Iterable[Line]:
        theirs = self._then.accounts[name]
        available = {(lot.bucket, lot.expires_at_ms): -lot.available for lot in (known.lots if known else [])}
        for lot in theirs.lots:
            key = (lot.bucket, lot.expires_at_ms)
            available[key] = available.get(key, 0) + lot.available
        moves = {place: self._held_legs(its, opened) for place, its in placed.items()}
        for legs in moves.values():  # what they will set aside has to be there first
            for leg in legs:
                key = (leg.bucket, leg.expires_at_ms)
                available[key] = available.get(key, 0) - leg.available
        version = known.version if known else 0
        sums = [known.available if known else 0, known.held if known else 0]
        amount = theirs.available + theirs.held - sum(sums)
        rest = [Leg(bucket, expires, by, 0) for (bucket, expires), by in available.items() if by]
        last = max(placed)
        for place in sorted(placed):
            version += 1
            legs = rest + moves[place]
            sums = [sums[0] + sum(leg.available for leg in legs), sums[1] + sum(leg.held for leg in legs)]
            lots = theirs.lots if place == last else None
            yield self._line(place, name, version, amount, sums, legs, placed[place], lots)
            amount, rest = 0, []
        if sums != [theirs.available, theirs.held]:
            raise NotAdoptable(f"The holds of {name} do not add up to what it has held; repair Redis first.")

    @staticmethod
    def _held_legs(reservation: Reservation | None, opened: dict[str, Reservation]) -> list[Leg]:
        """A reservation that was opened sets aside; what one that has ended gave back or spent is in the
        rest.
        """
        if reservation is None:
            return []
        before = opened.get(reservation.id)
        if reservation.status == "pending":
            return (
                [Leg(leg.bucket, leg.expires_at_ms, -leg.held, leg.held) for leg in reservation.legs]
                if before is None
                else []
            )
        return [Leg(leg.bucket, leg.expires_at_ms, 0, -leg.held) for leg in (before.legs if before else [])]

    def _line(  # noqa: PLR0917 - the members of an entry, used once
        self,
        place: int,
        name: str,
        version: int,
        amount: int,
        sums: Sequence[int],
        legs: list[Leg],
        reservation: Reservation | None,
        lots: Sequence[Lot] | None,
    ) -> Line:
        sealed = seal(
            reason="adopted: PostgreSQL lost this entry, and Redis has what it came to",
            resource=reservation.resource if reservation else None,
            metadata=reservation.metadata if reservation else None,
        )
        assert sealed is not None, "notes without a reason"
        entry = Entry(
            format=FORMAT,
            kind="adjusted",
            at_ms=self._then.at_ms,
            account=name,
            version=version,
            amount=amount,
            available=sums[0],
            held=sums[1],
            legs=legs,
            incarnation=self._incarnation,
            nonce=self._then.link,
            by=self._by,
            notes=sealed.hash,
            adopted=(self._loss.first, self._loss.last),
            reservation=reservation.id if reservation else None,
            task=reservation.task if reservation else None,
            provider=reservation.provider if reservation else None,
            model=reservation.model if reservation else None,
            stands=_stands(reservation) if reservation else None,
            lots=None
            if lots is None
            else [
                (each.bucket, each.priority, each.expires_at_ms, each.available, each.held, each.since)
                for each in lots
            ],
        )
        return Line(place, entry, _encode(entry), sealed.text.encode())

    def _linked(self, lines: list[Line]) -> list[Line]:
        """The first one names the call of the cursor."""
        entry = msgspec.structs.replace(lines[0].entry, previous_nonce=self._link)
        return [lines[0]._replace(entry=entry, text=_encode(entry)), *lines[1:]]


def _sums(account: Account | None) -> tuple[int, int] | None:
    return None if account is None else (account.available, account.held)


def _place(each: Reservation, first: int) -> int | None:
    """The sequence of the last entry of a reservation, as Redis remembers it. One that has ended may have
    been bound later; of an open one the entry that made it says what it holds.
    """
    if each.status != "pending":
        return max(each.ended_sequence or 0, each.bound_sequence or 0) or None
    return each.reserved_sequence if each.reserved_sequence >= first else each.bound_sequence


def _stands(each: Reservation) -> Stands:
    return Stands(
        status=each.status,
        reserved=each.reserved,
        captured=each.captured,
        charged=each.charged,
        released=each.released,
        held=each.held,
        deadline_ms=each.expires_at_ms,
        created_at_ms=each.created_at_ms,
        reserved_sequence=each.reserved_sequence,
        bound_sequence=each.bound_sequence,
        ended_sequence=each.ended_sequence,
        settled_at_ms=each.settled_at_ms,
        cause=each.cancel_cause,
    )


def _forgotten(each: Reservation, at_ms: int) -> Reservation:
    """It has ended, and Redis has forgotten how: what it held is where Redis has it."""
    return msgspec.structs.replace(
        each,
        status="cancelled",
        released=each.released + each.held,
        held=0,
        legs=[],
        ended_sequence=None,
        settled_at_ms=at_ms,
        cancel_cause="expired",
    )
