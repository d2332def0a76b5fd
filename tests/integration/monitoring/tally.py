"""What monitoring must say, added up by hand: every entry of the journal is looked at for every question."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from asyncpg import Pool

from app.ledger.entries import Entry

CREDITS = ("granted", "deducted", "confirmed", "cancelled", "expired", "refunded", "lapsed", "adjusted")
SPENDS = ("deducted", "confirmed")


class Line(msgspec.Struct, frozen=True):
    """An entry, where and when."""

    shard: int
    sequence: int
    at: datetime
    entry: Entry


class Ending(msgspec.Struct, frozen=True):
    """A reservation that was ended by a line."""

    line: Line
    how: str
    reserved: int
    captured: int
    seconds: float


class Tally:
    """All of a journal."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.endings: list[Ending] = []
        self.statuses = Counter(self._walk())

    @classmethod
    async def of(cls, database: Pool) -> "Tally":
        rows = await database.fetch("SELECT shard, seq, at, entry FROM journal ORDER BY shard, seq")
        return cls([Line(*row[:3], msgspec.json.decode(row["entry"], type=Entry)) for row in rows])

    def _walk(self) -> Iterable[str]:
        """How each reservation stands in the end; its endings are noted on the way."""
        made: dict[str, tuple[int, int]] = {}
        captured: dict[str, int] = defaultdict(int)
        left: dict[str, int] = {}
        status: dict[str, str] = {}
        for line in self.lines:
            entry, name = line.entry, line.entry.reservation
            if name is None or entry.kind == "refunded":
                continue
            if entry.stands is not None:
                stands = entry.stands
                made[name], captured[name] = (stands.reserved, stands.created_at_ms), stands.captured
                left[name] = stands.held
                status[name] = "expired" if stands.cause == "expired" else stands.status
            elif entry.kind == "reserved":
                made[name], left[name], status[name] = (entry.amount, entry.at_ms), entry.amount, "pending"
            elif entry.kind in ("confirmed", "cancelled", "expired"):
                captured[name] += entry.captured or 0
                left[name] += sum(leg.held for leg in entry.legs)
                if left[name] == 0:
                    status[name] = entry.kind
                    reserved, made_ms = made[name]
                    seconds = (entry.at_ms - made_ms) / 1000
                    self.endings.append(Ending(line, entry.kind, reserved, captured[name], seconds))
        return status.values()

    def step(self, start: datetime, end: datetime) -> dict[str, Any]:
        inside = [line for line in self.lines if start <= line.at < end]
        return {
            "start": start,
            **{
                kind: sum(each.entry.amount for each in inside if each.entry.kind == kind) for kind in CREDITS
            },
            "transactions": len(inside),
            "reservations": sum(each.entry.kind == "reserved" for each in inside),
            "accounts": len({each.entry.account for each in inside}),
        }

    def models(self, since: datetime) -> dict[str, dict[str, Any]]:
        inside = [line for line in self.lines if since <= line.at and line.entry.model is not None]
        return {name: self._model(name, inside, since) for name in {str(each.entry.model) for each in inside}}

    def _model(self, name: str, inside: Sequence[Line], since: datetime) -> dict[str, Any]:
        its = [line for line in inside if line.entry.model == name]
        ended = [each for each in self.endings if since <= each.line.at and each.line.entry.model == name]
        confirmed = [each for each in ended if each.how == "confirmed"]
        reserved, captured = (
            sum(each.reserved for each in confirmed),
            sum(each.captured for each in confirmed),
        )
        seconds = sum(each.seconds for each in confirmed)
        return {
            "model": name,
            "transactions": len(its),
            "credits": sum(each.entry.amount for each in its if each.entry.kind in SPENDS),
            "reserved": reserved,
            "captured": captured,
            "capture_ratio": captured / reserved if reserved else None,
            "success_rate": len(confirmed) / len(ended) if ended else None,
            "average_seconds": seconds / len(confirmed) if confirmed else None,
        }

    def top(self, since: datetime) -> list[dict[str, Any]]:
        inside = [line for line in self.lines if since <= line.at]
        users = [
            self._user(account, [each for each in inside if each.entry.account == account])
            for account in {each.entry.account for each in inside}
        ]
        spenders = [each for each in users if each["spent"]]
        return sorted(spenders, key=lambda each: (-each["spent"], each["account"]))

    def _user(self, account: str, its: Sequence[Line]) -> dict[str, Any]:
        return {
            "account": account,
            "spent": sum(each.entry.amount for each in its if each.entry.kind in SPENDS),
            "refunded": sum(each.entry.amount for each in its if each.entry.kind == "refunded"),
            "transactions": len(its),
            "reservations": sum(each.entry.kind == "reserved" for each in its),
            "last_activity_at": max(each.at for each in its),
        }

    def kinds(self) -> dict[str, tuple[int, int]]:
        found = {each.entry.kind for each in self.lines}
        return {
            kind: (
                sum(each.entry.kind == kind for each in self.lines),
                sum(each.entry.amount for each in self.lines if each.entry.kind == kind),
            )
            for kind in found
        }

    def balances(self) -> dict[str, tuple[int, int]]:
        """Available and held of each account."""
        return {line.entry.account: (line.entry.available, line.entry.held) for line in self.lines}

    def buckets(self) -> dict[str, tuple[int, int, int]]:
        """Available, held and liability of each bucket that has something."""
        lots: dict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0])
        for line in self.lines:
            for leg in line.entry.legs:
                lot = lots[line.entry.account, leg.bucket, leg.expires_at_ms]
                lot[0] += leg.available
                lot[1] += leg.held
        found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        for (_, bucket, _), (available, held) in lots.items():
            for place, value in enumerate((available, held, held + max(available, 0))):
                found[bucket][place] += value
        return {bucket: (sums[0], sums[1], sums[2]) for bucket, sums in found.items() if any(sums)}


def quarter_before(at: datetime, by: timedelta) -> datetime:
    """The beginning of the quarter of an hour in which the moment was."""
    then = at - by
    return then.replace(minute=then.minute // 15 * 15, second=0, microsecond=0)
