"""The tables that show what the journal adds up to, moved in the transaction that appends the rows.

A batch is folded in memory onto the rows that it touches, and every table is written once, with sets.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from app.ledger.entries import Entry
from app.ledger.stream import Broken, Line
from persistence.folding import Account, Contradiction, Lot, Reservation
from persistence.pool import Connection

LotKey = tuple[str, str, int]
LotRow = tuple[int, int, int, int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RESERVES = frozenset({"reserved", "bound", "confirmed", "cancelled", "expired"})
_MOVES = frozenset({"granted", "deducted", "lapsed", "repaired"})


@lru_cache(maxsize=8192)
def at(ms: int) -> datetime:
    """A moment of Redis' clock, exactly.

    Raises:
        OverflowError: Not a moment that a database can hold.
    """
    return _EPOCH + timedelta(milliseconds=ms)


class Projections:
    """The rows that a batch touches: loaded, folded, stored. Lives as long as one transaction."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._accounts: dict[str, Account] = {}
        self._reservations: dict[str, Reservation] = {}
        self._known_accounts: set[str] = set()
        self._known_reservations: set[str] = set()
        self._known_lots: dict[LotKey, LotRow] = {}

    async def load(self, connection: Connection, lines: Sequence[Line]) -> None:
        """Read what the journal has so far of all that `lines` are about. The shard must be locked."""
        await self._load_accounts(connection, list({line.entry.account for line in lines}))
        made = {line.entry.reservation for line in lines if line.entry.kind == "reserved"}
        touched = {line.entry.reservation for line in lines if line.entry.reservation is not None} - made
        if touched:
            await self._load_reservations(connection, list(touched))

    def fold(self, lines: Sequence[Line]) -> None:
        """Move on by `lines`.

        Raises:
            Broken: The first that contradicts what came before it.
        """
        for line in lines:
            try:
                self._fold(line)
            except Contradiction as error:
                raise Broken(line.sequence, f"{error}.") from error

    def _fold(self, line: Line) -> None:
        entry = line.entry
        account = self._accounts.get(entry.account)
        if account is None:
            account = Account(entry.account, self._shard, entry.at_ms, entry.at_ms)
            self._accounts[entry.account] = account
        elif account.shard != self._shard:
            raise Contradiction(f"is about {account.id}, which is at home in shard {account.shard}")
        held = account.fold(entry)
        if entry.kind == "adjusted":
            self._adopt(entry, held)
        elif entry.kind in _MOVES:
            if held != 0:
                raise Contradiction(f"is {entry.kind} and changes what is held by {held}")
        elif entry.kind in _RESERVES and entry.reservation is not None:
            self._fold_reservation(line, held)
        else:
            raise Contradiction(f"is of a kind that this release does not keep ({entry.kind})")

    def _adopt(self, entry: Entry, held: int) -> None:
        """An entry that took the place of a lost one may say how a reservation stands."""
        if entry.reservation is not None:
            before = self._reservations.get(entry.reservation)
            self._reservations[entry.reservation] = Reservation.adopted_by(entry, before, held)
        elif held != 0:
            raise Contradiction(f"is adjusted and changes what is held by {held}")

    def _fold_reservation(self, line: Line, held: int) -> None:
        entry = line.entry
        assert entry.reservation is not None
        reservation = self._reservations.get(entry.reservation)
        if entry.kind == "reserved":
            if reservation is not None:
                raise Contradiction(f"makes reservation {entry.reservation} a second time")
            self._reservations[entry.reservation] = Reservation.made_by(entry, line.sequence, held)
        elif reservation is None:
            raise Contradiction(f"is about reservation {entry.reservation}, which nobody made")
        else:
            reservation.fold(entry, line.sequence, held)

    async def store(self, connection: Connection) -> None:
        """Write everything that was folded."""
        await self._store_accounts(connection)
        await self._store_lots(connection)
        await self._store_reservations(connection)

    ACCOUNTS = "SELECT account, shard, version, available, held FROM accounts WHERE account = ANY($1)"

    LOTS = """
    SELECT account, bucket, expires_at_ms, priority, available, held, since
    FROM lots WHERE account = ANY($1)
    ORDER BY account, priority, expires_at_ms = 0, expires_at_ms, since, bucket COLLATE "C"
    """

    async def _load_accounts(self, connection: Connection, ids: list[str]) -> None:
        for account, shard, version, available, held in await connection.fetch(self.ACCOUNTS, ids):
            self._accounts[account] = Account(account, shard, 0, 0, version, available, held)
            self._known_accounts.add(account)
        if not self._known_accounts:
            return
        for row in await connection.fetch(self.LOTS, list(self._known_accounts)):
            account, bucket, expires_at_ms, priority, available, held, since = row
            lot = Lot(bucket, expires_at_ms, priority, available, held, since)
            self._accounts[account].lots.append(lot)
            self._known_lots[account, bucket, expires_at_ms] = (priority, available, held, since)

    RESERVATIONS = """
    SELECT id::text, account, reserved, held, 0, 0, reserved_seq, status, captured, charged, released,
      (extract(epoch FROM settled_at) * 1000)::bigint, cancel_cause, task, provider, model, bound_seq,
      ended_seq
    FROM reservations WHERE id = ANY($1::uuid[])
    """

    async def _load_reservations(self, connection: Connection, ids: list[str]) -> None:
        for row in await connection.fetch(self.RESERVATIONS, ids):
            self._reservations[row[0]] = Reservation(*row)
            self._known_reservations.add(row[0])

    OPEN_ACCOUNTS = """
    INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at)
    SELECT account, $1, version, available, held, opened_at, last_at
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
      AS new (account, version, available, held, opened_at, last_at)
    """

    MOVE_ACCOUNTS = """
    UPDATE accounts SET version = new.version, available = new.available, held = new.held,
      last_at = new.last_at
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[])
      AS new (account, version, available, held, last_at)
    WHERE accounts.account = new.account
    """

    async def _store_accounts(self, connection: Connection) -> None:
        opened = [each for each in self._accounts.values() if each.id not in self._known_accounts]
        moved = [each for each in self._accounts.values() if each.id in self._known_accounts]
        if opened:
            await connection.execute(
                self.OPEN_ACCOUNTS,
                self._shard,
                [each.id for each in opened],
                [each.version for each in opened],
                [each.available for each in opened],
                [each.held for each in opened],
                [at(each.opened_at_ms) for each in opened],
                [at(each.last_at_ms) for each in opened],
            )
        if moved:
            await connection.execute(
                self.MOVE_ACCOUNTS,
                [each.id for each in moved],
                [each.version for each in moved],
                [each.available for each in moved],
                [each.held for each in moved],
                [at(each.last_at_ms) for each in moved],
            )

    DROP_LOTS = """
    DELETE FROM lots
    USING unnest($1::text[], $2::text[], $3::bigint[]) AS gone (account, bucket, expires_at_ms)
    WHERE lots.account = gone.account AND lots.bucket = gone.bucket
      AND lots.expires_at_ms = gone.expires_at_ms
    """

    PUT_LOTS = """
    INSERT INTO lots (account, bucket, expires_at_ms, priority, available, held, since)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::integer[], $5::bigint[], $6::bigint[],
      $7::bigint[])
    ON CONFLICT (account, bucket, expires_at_ms) DO UPDATE
    SET priority = excluded.priority, available = excluded.available, held = excluded.held,
      since = excluded.since
    """

    async def _store_lots(self, connection: Connection) -> None:
        lots: dict[LotKey, LotRow] = {
            (account.id, lot.bucket, lot.expires_at_ms): (lot.priority, lot.available, lot.held, lot.since)
            for account in self._accounts.values()
            for lot in account.lots
        }
        gone = self._known_lots.keys() - lots.keys()
        if gone:
            await connection.execute(self.DROP_LOTS, *map(list, zip(*gone, strict=True)))
        put = [(*key, *lot) for key, lot in lots.items() if self._known_lots.get(key) != lot]
        if put:
            await connection.execute(self.PUT_LOTS, *map(list, zip(*put, strict=True)))

    MOVE_RESERVATIONS = """
    UPDATE reservations
    SET held = new.held, status = new.status, captured = new.captured, charged = new.charged,
      released = new.released, settled_at = new.settled_at, cancel_cause = new.cancel_cause, task = new.task,
      provider = new.provider, model = new.model, bound_seq = new.bound_seq, ended_seq = new.ended_seq
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
        $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::bigint[])
      AS new (id, held, status, captured, charged, released, settled_at, cancel_cause, task, provider, model,
        bound_seq, ended_seq)
    WHERE reservations.id = new.id
    """

    RESERVATION = (
        "id", "shard", "account", "reserved", "expires_at", "created_at", "reserved_seq", "held", "status",
        "captured", "charged", "released", "settled_at", "cancel_cause", "task", "provider", "model",
        "bound_seq", "ended_seq",
    )  # fmt: skip

    async def _store_reservations(self, connection: Connection) -> None:
        made, moved = [], []
        for each in self._reservations.values():
            settled_at = None if each.settled_at_ms is None else at(each.settled_at_ms)
            ending = (
                each.held, each.status, each.captured, each.charged, each.released, settled_at,
                each.cancel_cause, each.task, each.provider, each.model, each.bound_seq, each.ended_seq,
            )  # fmt: skip
            if each.id in self._known_reservations:
                moved.append((each.id, *ending))
            else:
                expires_at, created_at = at(each.expires_at_ms), at(each.created_at_ms)
                beginning = (each.account, each.reserved, expires_at, created_at, each.reserved_seq)
                made.append((each.id, self._shard, *beginning, *ending))
        if made:
            await connection.copy_records_to_table("reservations", records=made, columns=self.RESERVATION)
        if moved:
            await connection.execute(self.MOVE_RESERVATIONS, *map(list, zip(*moved, strict=True)))
