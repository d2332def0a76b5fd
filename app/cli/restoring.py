"""`lastro restore`: a Redis that has lost what it had is made again from the journal."""

import asyncio
import logging
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.refusals import Refusal
from app.cli.shared import data_option, exit_by, settings_of
from app.ledger.alike import alike, named, says

if TYPE_CHECKING:
    from app.ledger.judgement import Standing
    from persistence.restore import Orphan, Restored, Shard

REASONS_SHOWN_MAX = 16
SHARDS_SHOWN_MAX = 32
ACCOUNTS_SHOWN_MAX = 16

_DOING = {
    "claim": "claiming the shards",
    "prove": "holding the tables against the journal's entries",
    "drain": "draining what continues the journal",
    "others": "journaling what the other shards have",
    "salvage": "salvaging what does not",
    "remove": "removing what is left",
    "load": "loading accounts and holds",
    "compare": "comparing them with the journal",
    "open": "opening",
}
_COUNTED = frozenset({"prove", "others", "load", "compare"})


@click.command(short_help="Make a lost Redis again from the journal.")
@data_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--salvage",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What the journal does not have is appended to this file.  [default: lastro-salvage-<time>.jsonl]",
)
@click.option(
    "--shard",
    "shards",
    multiple=True,
    type=click.IntRange(0, 4095),
    help="Also this one, though only the operator has fenced it and Redis has it whole. May be repeated.",
)
def restore(data: Path, yes: bool, salvage: Path | None, shards: tuple[int, ...]) -> None:
    """Make the fenced shards of a Redis again from the journal.

    First what Redis still has and PostgreSQL lacks is journaled, or kept word for word where it does not
    continue the journal. Shards that are not fenced go on; those that are fenced by the operator alone, and
    that Redis has whole, stay fenced. Cut off anywhere, it may be begun again. Processes
    that run come back by themselves.

    Exit codes: 0 restored, 1 restored and something could not be opened, or salvaged entries or rewritten
    tables are to be looked at, 2 refused.
    """
    from persistence import restore as restoring

    settings = settings_of(data)
    logging.getLogger("persistence").addHandler(logging.NullHandler())  # why a shard is fenced is told below
    path = salvage or Path(f"lastro-salvage-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl")
    onlooker = _Onlooker(yes)
    try:
        restored = asyncio.run(
            restoring.restore(
                settings.database_url, settings.redis_url, salvage=path, watch=onlooker, also=shards
            )
        )
    finally:
        onlooker.end()
    if restored is None:
        raise Refusal("Nothing was done.")
    sentences = {each.shard: _sentence(each, path) for each in restored.shards}
    for which, sentence in alike(sentences)[:SHARDS_SHOWN_MAX]:
        click.echo(f"{says(which, 'is', 'are')} {sentence}")
    if len(alike(sentences)) > SHARDS_SHOWN_MAX:
        click.echo(f"and {len(alike(sentences)) - SHARDS_SHOWN_MAX:,} more")
    if restored.left:
        click.echo(
            f"{says(restored.left, 'stays', 'stay')} fenced by the operator; `lastro unfence` opens again"
        )
    _tell_orphans(restored.orphans, sum(each.salvaged for each in restored.shards))
    _tell_faults(restored)
    click.echo(f"{restored.loaded:,} accounts and open reservations restored in {onlooker.seconds:.1f} s")
    exit_by(not (restored.drift or restored.fences or restored.orphans or restored.rewritten))


class _Onlooker:
    """Asks once, then shows each step: with a bar on a terminal, otherwise a line when it is done."""

    def __init__(self, yes: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.seconds = 0.0
        self._yes = yes
        self._begun = self._step_begun = time.monotonic()
        self._name = ""
        self._done = self._total = 0
        self._bar: Any = None
        self._task: Any = None
        if sys.stdout.isatty():
            rate = TextColumn("{task.fields[rate]}")
            text = TextColumn("{task.description}")
            self._bar = Progress(text, BarColumn(), MofNCompleteColumn(), rate, TimeRemainingColumn())

    async def claimed(self, standings: "list[Standing]") -> bool:
        """Show what will be restored, and ask."""
        fenced = alike({each.shard: each.fence or "" for each in standings})
        for shards, why in fenced[:REASONS_SHOWN_MAX]:
            click.echo(f"{named(shards)}: {why}")
        if len(fenced) > REASONS_SHOWN_MAX:
            click.echo(f"and {len(fenced) - REASONS_SHOWN_MAX:,} more reasons")
        entries = sum(each.cursor for each in standings)
        click.echo(f"The journal has {entries:,} entries to restore from.")
        if not self._yes and not click.confirm("Make them again from the journal?"):
            return False
        self._begun = self._step_begun = time.monotonic()
        if self._bar:
            self._bar.start()
        return True

    def step(self, name: str, total: int = 0) -> None:
        """The one before is done."""
        self._end_step()
        self._name, self._done, self._total = name, 0, total
        self._step_begun = time.monotonic()
        if self._bar:
            self._task = self._bar.add_task(_DOING[name], total=total or None, rate="")

    def advance(self, by: int) -> None:
        self._done += by
        if self._bar:
            self._bar.update(self._task, advance=by, rate=self._rate())

    def end(self) -> None:
        """Also when it ends with an error."""
        self._end_step()
        self.seconds = time.monotonic() - self._begun
        if self._bar:
            self._bar.stop()

    def _end_step(self) -> None:
        if self._bar and self._name:
            self._bar.update(self._task, total=self._total or 1, completed=self._total or 1)
        elif self._name:
            many = f": {self._done:,}, {self._rate()}" if self._name in _COUNTED else ""
            click.echo(f"{_DOING[self._name]}{many}")
        self._name = ""

    def _rate(self) -> str:
        if self._name not in _COUNTED:
            return ""
        return f"{self._done / max(time.monotonic() - self._step_begun, 0.001):,.0f}/s"


def _sentence(shard: "Shard", path: Path) -> str:
    """Up to when a shard is known, and what may be missing of it; to be read after `shard 3 is`."""
    line = f"as of {_at(shard.last_at)}, entry {shard.cursor:,}" if shard.last_at else "as at birth"
    if shard.drained:
        line += f", of which {shard.drained:,} were still in Redis"
    if shard.why is None:
        return f"{line}. Nothing is missing."
    if shard.salvaged:
        return f"{line}. {shard.salvaged:,} entries that are not of its history are kept in {path}."
    journaled = f" by {_at(shard.journaled_at)}" if shard.journaled_at else ""
    return (
        f"{line}. What was answered and had not reached PostgreSQL{journaled} is missing, if there was any."
    )


def _at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _tell_orphans(orphans: "list[Orphan]", count: int) -> None:
    for each in orphans:
        amount = "" if each.amount is None else f" {each.amount:,}"
        key = f", key {each.key}" if each.key else ""
        click.echo(
            f"not in the journal: {each.transaction or f'shard {each.shard}, {each.sequence}'}: "
            f"{each.kind or 'unreadable'}{amount} of {each.account or 'nobody'}{key}"
        )
    if count > len(orphans):
        click.echo(f"and {count - len(orphans):,} more in the file")


def _tell_faults(restored: "Restored") -> None:
    for account in restored.rewritten[:ACCOUNTS_SHOWN_MAX]:
        click.echo(
            f"PostgreSQL's tables said of {account} what its entries do not: written again (table `repairs`)",
            err=True,
        )
    if len(restored.rewritten) > ACCOUNTS_SHOWN_MAX:
        click.echo(f"and {len(restored.rewritten) - ACCOUNTS_SHOWN_MAX:,} more accounts", err=True)
    for drift in restored.drift:
        click.echo(
            f"drift in {drift.account_id}, {drift.field}: Redis {drift.redis}, journal {drift.journal}",
            err=True,
        )
    if restored.drift:
        click.echo("The shards stay closed. Run `lastro verify`, then `lastro restore` again.", err=True)
    for shards, why in alike(restored.fences):
        click.echo(f"{says(shards, 'refuses', 'refuse')} all the same: {why}", err=True)
