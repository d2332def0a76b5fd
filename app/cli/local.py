"""Commands for people at their own machine."""

import os
from pathlib import Path

import click

from app.cli.refusals import Refusal
from app.cli.shared import data_option, exit_by


@click.command(short_help="Run a whole ledger here, to try things out.")
@click.option("--port", type=click.IntRange(0, 65535), help="Of the API (0: any free one).  [default: 8000]")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".lastro"),
    show_default=True,
    help="Folder that keeps everything; resumed when it is there.",
)
@click.option(
    "--ephemeral", is_flag=True, help="Keep nothing: use a temporary folder and remove it at the end."
)
def up(port: int | None, data: Path, ephemeral: bool) -> None:
    """Run a whole ledger here: Valkey, PostgreSQL, API, workers, cron.

    Prints `ready` with the address, and an API key with all scopes, as soon as it can be used. Ctrl-C ends
    it in order; what dies is started again. Valkey keeps every acknowledged write (`appendfsync always`).
    """
    if (
        ephemeral
        and click.get_current_context().get_parameter_source("data") != click.core.ParameterSource.DEFAULT
    ):
        raise click.UsageError("--ephemeral keeps nothing, so that --data has no meaning beside it")
    try:
        from app.up.command import run
    except ModuleNotFoundError as error:
        raise Refusal(f"{error}; `lastro up` needs lastro[embedded]") from error

    run(data, port=port, ephemeral=ephemeral)


@click.command(short_help="Play a shop, and account for every credit.")
@data_option
@click.option("--url", help="Of the API of another ledger; needs --key.")
@click.option("--key", help="With the scopes spend, grant and read, instead of the development key.")
@click.option(
    "--seconds",
    type=click.IntRange(1, 86_400),
    default=20,
    show_default=True,
    help="How long the shop is open.",
)
@click.option(
    "--accounts", type=click.IntRange(1, 10_000), default=200, show_default=True, help="How many customers."
)
def demo(data: Path, url: str | None, key: str | None, seconds: int, accounts: int) -> None:
    """Play a shop for AI media against a running ledger, and account for every credit at the end.

    Customers with a plan and extras order videos (a credit a second and one more), images and upscales. Jobs
    succeed, cost less than was set aside, fail, are cancelled, never answer; frontend and webhook confirm at
    the same instant; connections break and requests are repeated. Then every account's transactions are held
    against its balance and against what the shop was told. Ctrl-C closes the shop early.

    Its accounts are new ones (demo-...), so that it can be repeated on the same ledger.
    """
    from app.demo.command import run
    from app.demo.errors import CannotTell

    if url is not None and not key:
        raise Refusal("--url needs --key: the development key is for its own ledger")
    try:
        good = run(url or url_of(data), key or key_of(data), seconds=seconds, accounts=accounts)
    except CannotTell as error:
        raise Refusal(str(error)) from error
    exit_by(good)


def url_of(data: Path) -> str:
    """Where the API of the `lastro up` that runs in `data` is reached; LASTRO_HOST and LASTRO_PORT win."""
    from app.up.data import read_environment
    from app.up.readiness import Readiness

    told = {**read_environment(data), **os.environ}
    try:
        return Readiness(told["LASTRO_HOST"], int(told["LASTRO_PORT"])).url
    except KeyError:
        raise Refusal(
            f"No running `lastro up` was found in {data}; start `make run`, name another folder with --data, "
            "or another ledger with --url and --key"
        ) from None


def key_of(data: Path) -> str:
    """The development key of the `lastro up` that runs in `data`."""
    try:
        return (data / "dev-key").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise Refusal(f"No development key in {data}; give --key, or another folder with --data") from None
