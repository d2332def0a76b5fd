"""How batches are asked for, and what their answers are looked at by."""

from collections.abc import Sequence

from msgspec.structs import replace

from app.ledger.errors import BatchFailed, LedgerError
from app.ledger.ledger import Ledger
from app.ledger.operations import Reserve, Write
from app.ledger.receipts import Batched, Receipt

F, G = "f" * 16, "g" * 16
K = {"key": "k", "fingerprint": F}


async def batch(ledger: Ledger, *operations: Write) -> list[Receipt | LedgerError]:
    """The outcomes; an operation may be asked for again without what the ledger has filled in."""
    batched = await ledger.batch([replace(each) for each in operations])
    assert batched.failed is None
    return batched.results


def kinds(outcomes: Sequence[Receipt | LedgerError]) -> list[str | type]:
    return [each.entry.kind if isinstance(each, Receipt) else type(each) for each in outcomes]


async def reserved(ledger: Ledger, amount: int = 10, **more) -> str:
    made = await ledger.new_reservation_id("ana")
    await ledger.reserve(Reserve(account="ana", reservation=made, amount=amount, **more))
    return made


async def available(ledger: Ledger, account: str = "ana") -> int:
    return (await ledger.balance(account)).account.available


async def together(ledger: Ledger, *operations: Write) -> Batched:
    """An operation may be asked for again without what the ledger has filled in."""
    return await ledger.batch([replace(each) for each in operations], atomic=True)


def failed_of(batched: Batched, index: int, error: type) -> bool:
    """Whether it failed of that one, and the others were not carried out."""
    types = [type(each) for each in batched.results]
    wanted = [error if i == index else BatchFailed for i in range(len(types))]
    return (index, wanted) == (batched.failed, types)
