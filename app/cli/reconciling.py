"""`lastro reconcile`."""

import asyncio
import getpass
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from app.cli.shared import data_option, settings_of
from app.ledger.alike import together

if TYPE_CHECKING:
    from persistence.reconcile.command import Findings, Repairs
    from persistence.reconcile.drift import Drift
    from persistence.reconcile.sums import Totals
    from persistence.reconcile.tools import Tools

SHOWN_MAX = 100
GOOD, FOUND, COULD_NOT_TELL = 0, 1, 2

_PHASES = {
    "accounts": "accounts of the journal",
    "strays": "accounts of Redis",
    "reservations": "reservations of Redis",
    "due": "what is due in Redis",
}


@click.command(short_help="Compare Redis with the journal; put it right.")
@data_option
@click.option("--repair", is_flag=True, help="Put right what differs, by what the journal says.")
@click.option("--adopt", is_flag=True, help="First go on after PostgreSQL lost what Redis no longer has.")
@click.option("--account", metavar="ID", help="Only this account.")
@click.option("--by", help="Who wants it, kept with every repair.  [default: your login name]")
@click.option("--json", "as_json", is_flag=True, help="Tell it to a program.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def reconcile(  # noqa: PLR0917 - click passes them by name
    data: Path, repair: bool, adopt: bool, account: str | None, by: str | None, as_json: bool, yes: bool
) -> None:
    """Compare Redis, the projections and the entries, exactly, under any load.

    Names account, field and both values. A repair is an entry in the journal, and is kept with what was
    there before, what is there after, and who wanted it.

    Exit codes: 0 equal, 1 something differs (or did, and could not be repaired), 2 could not tell.
    """
    settings = settings_of(data)
    logging.getLogger("persistence").addHandler(logging.NullHandler())  # what could not be told is told below
    work = _Work(account, by or getpass.getuser(), as_json=as_json, yes=yes, repairs=repair)
    code = asyncio.run(work.run(settings.database_url, settings.redis_url, repair=repair, adopt=adopt))
    click.get_current_context().exit(code)


class _Work:
    """One call of the command."""

    def __init__(self, account: str | None, by: str, *, as_json: bool, yes: bool, repairs: bool) -> None:
        self._account = account
        self._by = by
        self._as_json = as_json
        self._yes = yes
        self._repairs = repairs

    async def run(self, database_url: str, redis_url: str, *, repair: bool, adopt: bool) -> int:
        from persistence.reconcile.command import Repairs, alone

        if adopt:
            await self._adopt(database_url, redis_url)
        async with alone(database_url, redis_url) as its:
            findings = await self._look(its)
            self._say(findings)
            repairs = None
            if repair and findings.drift and self._may_repair(findings.drift):
                repairs = await self._repair(its, findings.drift)
                findings = await self._look(its)
            if self._as_json:
                click.echo(_json(findings, repairs or Repairs() if repair else None))
            elif repairs is not None:
                self._say(findings)
            return {"equal": GOOD, "drift": FOUND, "unknown": COULD_NOT_TELL}[findings.status]

    async def _adopt(self, database_url: str, redis_url: str) -> None:
        from persistence.reconcile.adopt import adopt, losses

        found = await losses(database_url, redis_url)
        for loss in found:
            self._echo(loss.sentence)
        if not found:
            self._echo(
                "PostgreSQL has not lost anything that Redis no longer has: there is nothing to adopt."
            )
            return
        if not self._yes:
            if self._as_json:
                raise click.UsageError("--adopt with --json needs --yes: nobody can be asked.")
            click.confirm("Go on from what Redis has, with an entry for each that is lost?", abort=True)
        for adopted in await adopt(database_url, redis_url, self._by):
            self._echo(adopted.sentence)

    async def _look(self, its: "Tools") -> "Findings":
        from persistence.reconcile.command import everything, some

        if self._account is not None:
            return await some(its, [self._account])
        total = await its.connection.fetchval("SELECT count(*) FROM accounts")
        with _Bar(total, silent=self._as_json) as bar:
            return await everything(its, self._by, bar)

    def _may_repair(self, drift: "list[Drift]") -> bool:
        accounts = sorted({each.account_id for each in drift})
        if self._yes:
            return True
        if self._as_json:
            raise click.UsageError("--repair with --json needs --yes: nobody can be asked.")
        some = ", ".join(accounts[:5]) + (", ..." if len(accounts) > 5 else "")  # noqa: PLR2004
        return click.confirm(f"Put {len(accounts)} right by what the journal says ({some})?")

    async def _repair(self, its: "Tools", drift: "list[Drift]") -> "Repairs":
        from persistence.reconcile.command import repair

        repairs = await repair(its, self._by, drift)
        for each in repairs.repaired:
            what = ["PostgreSQL's tables"] * each.projection + [
                f"Redis ({each})" for each in each.transactions
            ]
            self._echo(f"repaired {each.account}: {', '.join(what) or 'nothing was wrong any more'}")
        for account, why in repairs.failed.items():
            self._echo(f"not repaired {account}: {why}")
        return repairs

    def _say(self, findings: "Findings") -> None:
        if self._as_json:
            return
        if findings.drift:
            _table(findings.drift[:SHOWN_MAX])
        if findings.drifts > SHOWN_MAX:
            click.echo(f"and {findings.drifts - SHOWN_MAX:,} more")
        for why in together(findings.unknown):
            click.echo(f"could not tell: {why}")
        if findings.accounts:
            click.echo(_sums(findings.totals))
        outcome = {
            "equal": "equal",
            "drift": f"{findings.drifts:,} differences"
            + "; see `lastro reconcile --repair`" * (not self._repairs),
            "unknown": "could not tell",
        }
        looked_at = "1 account" if findings.accounts == 1 else f"{findings.accounts:,} accounts"
        click.echo(f"{looked_at}: {outcome[findings.status]}")

    def _echo(self, line: str) -> None:
        click.echo(line, err=self._as_json)


class _Bar:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, total: int, *, silent: bool) -> None:
        self._total = total
        self._bar: Any = None
        self._task: Any = None
        if not silent and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, phase: str, accounts: int) -> None:
        if self._bar:
            self._bar.update(self._task, description=_PHASES.get(phase, phase), completed=accounts)


def _sums(totals: "Totals") -> str:
    if totals.came != totals.there_or_gone:
        return f"{totals.came:,} credits came and {totals.there_or_gone:,} are there or gone"
    return (
        f"granted {totals.granted:,} + refunded {totals.refunded:,} + adjusted {totals.adjusted:,} = "
        f"available {totals.available:,} + held {totals.held:,} + spent {totals.spent:,} + "
        f"lapsed {totals.lapsed:,}"
    )


def _table(drift: "list[Drift]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("account", "field", "Redis (projection.*: the table)", "journal", box=None)
    for each in drift:
        table.add_row(each.account_id, each.field, _shown(each.redis), _shown(each.journal))
    console = Console(width=200, highlight=False, markup=False, soft_wrap=True)
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def _shown(value: int | str | None) -> str:
    return "-" if value is None else str(value)


def _json(findings: "Findings", repairs: "Repairs | None") -> str:
    import msgspec

    shown = msgspec.to_builtins(findings)
    shown["status"] = findings.status
    shown["unknown"] = together(findings.unknown)
    if repairs is not None:
        shown["repaired"] = [
            {
                "accountId": each.account,
                "projection": each.projection,
                "transactions": [str(transaction) for transaction in each.transactions],
            }
            for each in repairs.repaired
        ]
        shown["failed"] = repairs.failed
    return msgspec.json.encode(shown).decode()
