"""How many tests begin, and how they look at what came of it."""

from collections.abc import Iterable
from typing import Any

from app.ledger.entries import Entry
from app.ledger.operations import Configure, Confirm, Deduct, Grant, Original, Refund, Reserve
from app.ledger.replies import Applied
from app.ledger.shards import TransactionId, shard_of
from tests.lua.direct import ANA, SHARD, SHARDS, Direct

MINUTE_MS, DAY_MS = 60_000, 86_400_000
F, G = "f" * 16, "g" * 16
EVE = next(each for each in (f"eve{i}" for i in range(99)) if shard_of(each, SHARDS) == SHARD)
"""An account of the same shard as ana's."""


def keyed(key: str = "k", fingerprint: str = F) -> dict[str, Any]:
    return {"key": key, "fingerprint": fingerprint}


def legs(applied: Applied) -> list[tuple[str, int, int]]:
    """Bucket and what it adds to available and held, of each leg."""
    return [(leg.bucket, leg.available, leg.held) for leg in (applied.entry or _none()).legs]


async def rows(direct: Direct) -> list[tuple[str, int, int]]:
    """Bucket, available, held of each lot of ana, in spending order."""
    return [(lot.bucket, lot.available, lot.held) for lot in (await direct.account()).lots]


async def balance(direct: Direct) -> tuple[int, int]:
    """What ana has available, and held."""
    account = await direct.account()
    return account.available, account.held


async def entries(direct: Direct, last: int = 0) -> list[Entry]:
    """The journal of ana's shard, or so many of its last entries."""
    return [each.entry for each in await direct.journal.entries(SHARD)][-last:]


async def grant(direct: Direct, amount: int, bucket: str = "default", in_ms: int = 0, **more: Any) -> Applied:
    """Credits for ana, that expire in so many milliseconds or never."""
    expires_at_ms = direct.now_ms + in_ms if in_ms else 0
    asked = Grant(account=ANA, amount=amount, bucket=bucket, expires_at_ms=expires_at_ms, open=True, **more)
    return (await direct.do(asked))[0]


async def reserve(direct: Direct, amount: int, **more: Any) -> str:
    """A reservation of ana."""
    id_ = direct.new_id()
    await direct.do(Reserve(account=ANA, reservation=id_, amount=amount, **more))
    return id_


async def deduct(direct: Direct, amount: int) -> Applied:
    return (await direct.do(Deduct(account=ANA, amount=amount)))[0]


async def configure(direct: Direct, **settings: Any) -> Applied:
    return (await direct.do(Configure(account=ANA, **settings)))[0]


async def part(direct: Direct, id_: str, amount: int, key: str, **more: Any) -> Applied:
    """A part of what a reservation holds is captured, the rest stays held."""
    return (await direct.do(Confirm(reservation=id_, amount=amount, final=False, **keyed(key), **more)))[0]


async def owing(direct: Direct, debt: int, *, held: int = 0, limit: int = 1000) -> str:
    """Ana owes so much, and may owe so much; a reservation holds the rest of what she had."""
    await grant(direct, held + 1)
    id_ = await reserve(direct, held, ttl_ms=MINUTE_MS) if held else ""
    await configure(direct, overdraft_limit=limit)
    await deduct(direct, debt + 1)
    return id_


def original(applied: Applied, **more: Any) -> Original:
    """What an operation of ana's spent, as whoever gives it back names it."""
    entry = applied.entry or _none()
    left, rest = [], entry.amount
    for leg in entry.legs:
        spent = min(rest, max(0, -leg.available - leg.held))
        rest -= spent
        if spent:
            left.append((leg.bucket, leg.expires_at_ms, spent))
    transaction = str(TransactionId(SHARD, entry.incarnation, applied.sequence))
    references = {name: getattr(entry, name) for name in ("reservation", "task", "provider", "model")}
    return Original(transaction=transaction, left=left, **references | more)


def refund(*spent: Applied, amount: int | None = None, **more: Any) -> Refund:
    """Give back what these operations of ana's have spent."""
    return Refund(account=ANA, originals=[original(each) for each in spent], amount=amount, **more)


def words(results: Iterable[object]) -> list[str]:
    """The word of each refusal among some answers; `ok` for the others."""
    return [getattr(each, "word", "ok") for each in results]


def _none() -> Entry:
    raise AssertionError("an answer without its entry")
