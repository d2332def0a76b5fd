"""What people see: blocks on a terminal, a line for each look where there is none."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.top.asking import Everything, Health, Look

ROWS_MAX = 5
STYLES = {"healthy": "green", "warning": "yellow", "critical": "bold red"}

_BARS, _PLAIN = "▁▂▃▄▅▆▇█", "_.:-=+*#"
_STEPS = {"hour": "hours", "day": "days", "week": "weeks", "month": "months"}


class Board:
    """Keeps what was told last, so that it is still there while nothing is told.

    Args:
        url: Whose.
        plain: Only signs that every terminal has.
    """

    def __init__(self, url: str, *, plain: bool = False) -> None:
        self._url = url
        self._bars = _PLAIN if plain else _BARS
        self._health: Health | None = None
        self._seen: Everything | None = None
        self._before: Everything | None = None
        self.why = ""

    def take(self, look: Look) -> None:
        """What was told now."""
        self._health, self.why = look.health, look.why
        new = look.everything
        if new is None:
            return
        if self._seen is not None and new.overview.as_of > self._seen.overview.as_of:
            self._before = self._seen
        self._seen = new

    @property
    def rate(self) -> float | None:
        """Transactions a second between the last two moments that were told of."""
        if self._seen is None or self._before is None:
            return None
        now, then = self._seen.overview, self._before.overview
        seconds = (now.as_of - then.as_of).total_seconds()
        return (now.transactions_ever - then.transactions_ever) / seconds

    def miss(self, why: str) -> None:
        """That nothing is told now: numbers stay as they were told, how it is nobody knows."""
        self._health, self.why = None, why

    @property
    def status(self) -> str:
        """How it is, in a word."""
        return "unknown" if self._health is None else self._health.status

    def blocks(self, clock: str) -> RenderableType:
        """All of it. `clock`: what time it is."""
        parts: list[RenderableType] = [self._heading(clock)]
        if self.why:
            parts.append(Text(self.why, style="bold red"))
        if self._seen is not None:
            parts += [Text(), self._numbers(self._seen), Text(), self._lists(self._seen)]
        if self._health is not None:
            parts += [Text(), self._attention(self._health)]
        return Group(*parts)

    def line(self, clock: str) -> str:
        """The same in one line."""
        told = [clock, self.status]
        if self._seen is not None:
            seen = self._seen.overview
            told.append(f"{self._rate_told()}, {seen.available:,} available, {seen.held:,} held")
            told.append(f"{seen.reservations.pending:,} pending, lag {_seconds(self._seen.lag_seconds)}")
        if self._health is not None and self._health.attention:
            told.append("attention: " + ", ".join(each.name for each in self._health.attention))
        return "  ".join([*told, self.why] if self.why else told)

    def _heading(self, clock: str) -> Text:
        style = STYLES.get(self.status, "bold red")
        told = "" if self._seen is None else f"  as of {self._seen.overview.as_of:%H:%M:%S} UTC"
        return Text.assemble(
            ("lastro top", "bold"), f"  {self._url}  {clock}{told}  ", (self.status.upper(), style)
        )

    def _numbers(self, seen: Everything) -> Table:
        its, ended = seen.overview, seen.overview.reservations
        credits_ = f"{its.available:,} available, {its.held:,} held, {its.liability:,} owed to customers"
        open_ = f"{ended.pending:,} pending, {ended.confirmed:,} confirmed"
        gone = f"{ended.cancelled:,} cancelled, {ended.expired:,} expired"
        return _grid(
            [
                ("credits", credits_),
                ("accounts", f"{its.accounts.total:,}, {its.accounts.with_balance:,} with credits"),
                ("reservations", f"{open_}, {gone}"),
                ("now", self._rate_told()),
                ("spent", self._spent(seen)),
            ]
        )

    def _rate_told(self) -> str:
        return "rate not known yet" if self.rate is None else f"{self.rate:,.1f} transactions/s"

    def _spent(self, seen: Everything) -> str:
        spent = [each.spent for each in seen.usage.series]
        total, before = sum(spent), seen.usage.previous.spent
        change = f", {(total - before) / before:+.0%} to before" if before else ""
        steps = f"{len(spent)} {_STEPS[seen.usage.period]}"
        return f"{sparkline(spent, self._bars)}  {total:,} in {steps}{change}"

    def _lists(self, seen: Everything) -> Table:
        both = Table.grid(padding=(0, 4))
        users = [(each.account_id, f"{each.spent:,}", "") for each in seen.top_users.users]
        models = [
            (each.model_id, f"{each.credits:,}", _share(each.success_rate)) for each in seen.models.models
        ]
        both.add_row(_list("spends most", users), _list("most used models", models))
        return both

    def _attention(self, health: Health) -> Table:
        block = Table.grid(padding=(0, 2))
        if not health.attention:
            block.add_row(Text("nothing needs attention", style="green"))
        for each in health.attention:
            block.add_row(Text(each.status, style=STYLES[each.status]), Text(each.name), Text(each.message))
        return block


def sparkline(values: Sequence[int], bars: str = _BARS) -> str:
    """A bar for each value, the highest of which is full."""
    most = max(values, default=0)
    return "".join(bars[(len(bars) - 1) * max(0, each) // most] if most > 0 else bars[0] for each in values)


def _seconds(lag: float | None) -> str:
    return "some time" if lag is None else f"{lag:.1f} s"


def _share(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.0%} succeed"


def _grid(rows: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for name, told in rows:
        grid.add_row(Text(name, style="dim"), Text(told))
    return grid


def _list(title: str, rows: Sequence[tuple[str, str, str]]) -> Table:
    block = Table.grid(padding=(0, 2))
    block.add_column(max_width=40, overflow="ellipsis", no_wrap=True)
    block.add_column(justify="right", no_wrap=True)
    block.add_column(no_wrap=True)
    block.add_row(Text(title, style="bold"))
    for name, number, more in rows[:ROWS_MAX]:
        block.add_row(Text(name), Text(number), Text(more, style="dim"))
    if not rows:
        block.add_row(Text("nothing yet", style="dim"))
    return block
