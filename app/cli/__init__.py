"""`lastro`: every command. Each imports what it needs when it runs, so that `--help` is quick."""

import click

from app.cli import (
    alerting,
    backups,
    cleaning,
    doctor,
    erasing,
    fencing,
    keys,
    local,
    months,
    reconciling,
    restoring,
    services,
    simulating,
    top,
    verifying,
)
from app.cli.refusals import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lastro")
def cli() -> None:
    """The ledger of prepaid credits.

    \b
    lastro up                  a whole ledger on this machine, to try things out
    lastro demo                a shop that uses it, played before your eyes
    lastro keys create ...     an API key for your own program

    In production each part runs by itself: `migrate` once, then `api`, `worker` and `cron`, with
    LASTRO_REDIS_URL and LASTRO_DATABASE_URL in the environment (docker-compose.yml shows it; the README
    lists all settings).

    Exit codes: 0 good, 1 something was found, 2 could not tell or was refused.
    """  # noqa: D301 - \b is for click: it keeps the lines as they are


for command in (
    local.up,
    local.demo,
    services.migrate,
    services.api,
    services.worker,
    services.cron,
    keys.keys,
    fencing.fence,
    fencing.unfence,
    fencing.drain,
    doctor.doctor,
    alerting.alerts,
    reconciling.reconcile,
    restoring.restore,
    verifying.verify,
    backups.export,
    backups.import_,
    backups.drill,
    months.months,
    erasing.erase,
    cleaning.cleanup,
    simulating.simulate,
    top.top,
):
    cli.add_command(command)


def main() -> None:
    """The entry point."""
    cli(prog_name="lastro")
