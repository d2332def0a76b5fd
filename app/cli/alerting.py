"""`lastro alerts`: what fires, who is told, and what is watched."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.refusals import Refusal
from app.cli.shared import data_option, settings_of

if TYPE_CHECKING:
    from app.alerts import Alert, State
    from app.rules import Rule
    from app.settings import Settings

_STYLES = {"warning": "yellow", "critical": "red", "resolved": "green"}


@click.group(short_help="What has gone wrong, who is told, what is watched.")
def alerts() -> None:
    """Alerts: those that fire, a test of who is told, and the rules with their thresholds."""


@alerts.command("list")
@data_option
@click.option("--state", type=click.Choice(["firing", "resolved"]), help="Only those.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="So many at most.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_(data: Path, state: "State | None", limit: int, as_json: bool) -> None:
    """Those that fire first, then those that are over; each newest first.

    Exit codes: 0 none fires, 1 at least one does, 2 could not tell.
    """
    found = asyncio.run(_list(settings_of(data), state, limit))
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif not found:
        click.echo("No alert fires." if state != "resolved" else "No alert is kept that is over.")
    else:
        for alert in found:
            _print(alert)
    click.get_current_context().exit(int(any(alert.state == "firing" for alert in found)))


async def _list(settings: "Settings", state: "State | None", limit: int) -> "list[Alert]":
    from persistence.alerts.kept import PostgresAlerts
    from persistence.pool import open_pool

    async with await open_pool(settings.database_url, connections_max=1, name="lastro alerts") as pool:
        return await PostgresAlerts(pool, {}).alerts(state, limit=limit)


def _print(alert: "Alert") -> None:
    how = alert.level if alert.state == "firing" else alert.state
    until = f" to {alert.resolved_at:%Y-%m-%d %H:%M:%S}" if alert.resolved_at else ""
    about = f" ({alert.subject})" if alert.subject else ""
    styled = click.style(f"{how:<8}", fg=_STYLES[how])
    click.echo(f"{styled}  {alert.rule}{about}, {alert.since:%Y-%m-%d %H:%M:%S}{until} UTC")
    click.echo(f"{'':8}  {alert.message}")


@alerts.command(short_help="Tell whom LASTRO_ALERT_URLS names that this is a test.")
@data_option
def test(data: Path) -> None:
    """Tell everybody whom LASTRO_ALERT_URLS names that this is a test, and say who has taken it.

    The URLs are those of this command's own environment, so that one can be tried before it is set for all.

    Exit codes: 0 all have, 1 somebody has not, 2 nobody is named.
    """
    from app.alerts import channel_urls

    urls = channel_urls(settings_of(data).alert_urls)
    if not urls:
        raise Refusal(
            "LASTRO_ALERT_URLS is not set here, so that nobody is told. Set it for this command, too; "
            "docs/alerts.md says what it may be."
        )
    failed = asyncio.run(_tell(urls))
    click.get_current_context().exit(int(failed))


async def _tell(urls: list[str]) -> bool:
    from persistence.alerts.telling import Channels
    from persistence.alerts.wording import Notice

    channels = Channels(urls)
    sent = await channels.tell(Notice("Lastro: a test", "You are told of this ledger's alerts here."))
    for channel, name in (await channels.names()).items():
        click.echo(f"{name}: {sent[channel] or 'taken'}")
    return any(why is not None for why in sent.values())


@alerts.command(short_help="What is watched, and from where on it is bad.")
@data_option
def rules(data: Path) -> None:
    """What is watched, with the thresholds as LASTRO_THRESHOLDS sets them."""
    from app.rules import read_rules

    found = read_rules(settings_of(data).thresholds)
    width = max(map(len, found))
    click.echo(f"{'rule':<{width}}  {'warning':>8}  {'critical':>8}  what it is")
    for rule in found.values():
        click.echo(f"{rule.name:<{width}}  {_limits(rule)}  {rule.says}")


def _limits(rule: "Rule") -> str:
    return "  ".join(
        f"{'' if each is None else format(each, 'g'):>8}" for each in (rule.warning, rule.critical)
    )
