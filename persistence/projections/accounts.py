"""The tables `accounts` and `lots`."""

from collections.abc import Sequence

from app.ledger.entries import Entry
from persistence.folding import Account, Contradiction, Lot
from persistence.pool import Connection
from persistence.projections.moments import at

LotKey = tuple[str, str, int]
LotRow = tuple[int, int, int, int]


class Accounts:
    """The rows of the accounts that a batch touches."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._accounts: dict[str, Account] = {}
        self._known: set[str] = set()
        self._known_lots: dict[LotKey, LotRow] = {}
        self._configured: set[str] = set()

    ACCOUNTS = """
    SELECT account, shard, version, available, held, overdraft_limit, status, low_balance
    FROM accounts WHERE account = ANY($1)
    """

    LOTS = """
    SELECT account, bucket, expires_at_ms, priority, available, held, since
    FROM lots WHERE account = ANY($1)
    ORDER BY account, priority, expires_at_ms = 0, expires_at_ms, since, bucket COLLATE "C"
    """

    async def load(self, connection: Connection, ids: list[str]) -> None:
        for row in await connection.fetch(self.ACCOUNTS, ids):
            account, shard, version, available, held, *settings = row
            self._accounts[account] = Account(account, shard, 0, 0, version, available, held, [], *settings)
            self._known.add(account)
        if not self._known:
            return
        for row in await connection.fetch(self.LOTS, list(self._known)):
            account, bucket, expires_at_ms, priority, available, held, since = row
            lot = Lot(bucket, expires_at_ms, priority, available, held, since)
            self._accounts[account].lots.append(lot)
            self._known_lots[account, bucket, expires_at_ms] = (priority, available, held, since)

    def fold(self, entry: Entry) -> int:
        """Returns how much more is held after it. Raises `Contradiction`."""
        account = self._accounts.get(entry.account)
        if account is None:
            account = Account(entry.account, self._shard, entry.at_ms, entry.at_ms)
            self._accounts[entry.account] = account
        elif account.shard != self._shard:
            raise Contradiction(f"is about {account.id}, which is at home in shard {account.shard}")
        held = account.fold(entry)
        if entry.kind in {"configured", "adjusted"}:
            self._configured.add(entry.account)
        return held

    async def store(self, connection: Connection) -> None:
        opened, moved, configured = [], [], []
        for each in self._accounts.values():
            if each.id in self._configured:
                configured.append(each)
            elif each.id in self._known:
                moved.append(each)
            else:
                opened.append(each)
        if opened:
            await self._open(connection, opened)
        if moved:
            await self._move(connection, moved)
        if configured:
            await self._configure(connection, configured)
        await self._store_lots(connection)

    OPEN = """
    INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at)
    SELECT account, $1, version, available, held, opened_at, last_at
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[])
      AS new (account, version, available, held, opened_at, last_at)
    """

    async def _open(self, connection: Connection, opened: Sequence[Account]) -> None:
        await connection.execute(
            self.OPEN,
            self._shard,
            [each.id for each in opened],
            [each.version for each in opened],
            [each.available for each in opened],
            [each.held for each in opened],
            [at(each.opened_at_ms) for each in opened],
            [at(each.last_at_ms) for each in opened],
        )

    MOVE = """
    UPDATE accounts SET version = new.version, available = new.available, held = new.held,
      last_at = new.last_at
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[])
      AS new (account, version, available, held, last_at)
    WHERE accounts.account = new.account
    """

    async def _move(self, connection: Connection, moved: Sequence[Account]) -> None:
        await connection.execute(
            self.MOVE,
            [each.id for each in moved],
            [each.version for each in moved],
            [each.available for each in moved],
            [each.held for each in moved],
            [at(each.last_at_ms) for each in moved],
        )

    # What may be owed and what is owed belong together, in one statement. An account that is new here, and
    # that another shard has opened meanwhile, is refused by the table.
    OPEN_CONFIGURED = """
    INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at, overdraft_limit,
      status, low_balance)
    SELECT account, $1, version, available, held, opened_at, last_at, overdraft_limit, status, low_balance
    FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[], $7::timestamptz[],
        $8::bigint[], $9::text[], $10::bigint[])
      AS new (account, version, available, held, opened_at, last_at, overdraft_limit, status, low_balance)
    """

    CONFIGURE = """
    UPDATE accounts SET version = new.version, available = new.available, held = new.held,
      last_at = new.last_at, overdraft_limit = new.overdraft_limit, status = new.status,
      low_balance = new.low_balance
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[],
        $7::bigint[], $8::text[], $9::bigint[])
      AS new (account, version, available, held, opened_at, last_at, overdraft_limit, status, low_balance)
    WHERE accounts.account = new.account
    """

    async def _configure(self, connection: Connection, configured: Sequence[Account]) -> None:
        known = [_row(each) for each in configured if each.id in self._known]
        opened = [_row(each) for each in configured if each.id not in self._known]
        if known:
            await connection.execute(self.CONFIGURE, *map(list, zip(*known, strict=True)))
        if opened:
            columns = map(list, zip(*opened, strict=True))
            await connection.execute(self.OPEN_CONFIGURED, self._shard, *columns)

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


def _row(account: Account) -> tuple[object, ...]:
    return (
        account.id, account.version, account.available, account.held, at(account.opened_at_ms),
        at(account.last_at_ms), account.overdraft_limit, account.status, account.low_balance,
    )  # fmt: skip
