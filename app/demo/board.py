"""What people see while it plays: three blocks on a terminal, a line now and then where there is none."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from app.demo.account import Account
from app.demo.tally import End, Tally
from app.demo.traffic import Traffic

Rows = Iterable[tuple[str, str, str]]
_BAR = 24
_AWAY_SECONDS = 1.0


class Board:
    """`stage` is what goes on now, in a few words; `done` how much of it, 0 to 1."""

    def __init__(self, heading: str, accounts: list[Account], tally: Tally, traffic: Traffic) -> None:
        self.stage = ""
        self.done = 0.0
        self._heading = heading
        self._accounts = accounts
        self._tally = tally
        self._traffic = traffic

    def table(self, now: float) -> RenderableType:
        """All of it. Args: seconds of a clock that never goes back."""
        top = Table.grid(padding=(0, 2))
        top.add_row(Text(self.stage), ProgressBar(1.0, self.done, width=_BAR))
        blocks = Table.grid(padding=(0, 3), expand=False)
        blocks.add_row(
            _block("jobs", self._jobs()),
            _block("credits", self._credits()),
            Group(_block("requests", self._requests(now)), Text(), _block("refused", self._refused())),
        )
        return Group(Text(self._heading, style="bold"), Text(), top, self._trouble(now), blocks)

    def line(self, now: float) -> str:
        """The same in one line, for logs."""
        told = [f"{count} {word}" for count, word, _ in (*self._jobs(), *self._requests(now)) if count != "0"]
        credits_ = [f"{count} {word}" for count, word, _ in self._credits()]
        trouble = self._trouble(now).plain
        return "  ".join(filter(None, [self.stage, ", ".join(told), ", ".join(credits_), trouble]))

    def _jobs(self) -> Rows:
        tally = self._tally
        yield f"{tally.started:,}", "started", ""
        yield f"{tally.running:,}", "running", ""
        for end in End:
            if tally.ended[end] or end is not End.AMISS:
                yield f"{tally.ended[end]:,}", str(end), "red" if end is End.AMISS else ""

    def _credits(self) -> Rows:
        accounts = self._accounts
        yield f"{sum(each.told.credits['granted'] for each in accounts):,}", "granted", ""
        yield f"{sum(each.balance.available for each in accounts):,}", "available", ""
        yield f"{sum(each.balance.held for each in accounts):,}", "held", ""
        yield f"{sum(each.told.spent for each in accounts):,}", "spent", ""
        yield f"{sum(each.lapsed for each in accounts):,}", "lapsed", ""

    def _requests(self, now: float) -> Rows:
        traffic = self._traffic
        yield f"{traffic.rate(now):,.0f}", "a second", ""
        yield f"{traffic.latencies.milliseconds(0.5):.1f}", "ms p50", ""
        yield f"{traffic.latencies.milliseconds(0.99):.1f}", "ms p99", ""
        yield f"{traffic.hung_up:,}", "cut off by us", ""
        for why, count in traffic.unanswered.most_common(4):
            yield f"{count:,}", why, "yellow"
        yield f"{traffic.done_already:,}", "were done already", ""

    def _refused(self) -> Rows:
        for why, count in self._traffic.refusals.most_common(6):
            yield f"{count:,}", why, ""

    def _trouble(self, now: float) -> Text:
        """That nothing is answered, once it is not a matter of moments; and what should not have happened."""
        silence, why = self._traffic.silence(now), self._traffic.why
        if self._tally.found:
            return Text(f"{self._tally.found} broken promises", style="bold red")
        if silence > _AWAY_SECONDS:
            return Text(f"no answer for {silence:.0f} s" + (f" ({why})" if why else ""), style="yellow")
        return Text()


def _block(title: str, rows: Rows) -> Table:
    block = Table.grid(padding=(0, 1))
    block.add_column(justify="right", min_width=7, no_wrap=True)
    block.add_column(no_wrap=True)
    block.add_row(Text(title, style="bold"), "")
    for count, word, style in rows:
        block.add_row(Text(count, style=style), Text(word, style=style or "dim"))
    return block
