"""Entries of one account, made by hand."""

from app.ledger.entries import Entry, Leg

IN, OUT = frozenset({"granted", "refunded", "adjusted"}), frozenset({"deducted", "lapsed", "confirmed"})


def entry(
    kind: str, version: int, balance: tuple[int, int], *legs: tuple[str, int, int, int], **more
) -> Entry:
    """An entry of ana's. `balance`: available and held after it; its amount is what its legs come to."""
    moved = sum(available + held for _, _, available, held in legs)
    amount = moved if kind in IN else -moved if kind in OUT else more.get("released") or 0
    return Entry(
        format=1, kind=kind, at_ms=1000 + version, account=more.pop("account", "ana"), version=version,
        amount=more.pop("amount", amount), available=balance[0], held=balance[1],
        legs=[Leg(*leg) for leg in legs], incarnation=1, nonce="n", **more,
    )  # fmt: skip
