"""Commands for people at their own machine."""

from pathlib import Path

import click

from app.cli.refusals import Refusal
from app.cli.shared import data_option, exit_by, settings_of


@click.command()
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


@click.command()
@data_option
@click.option("--url", help="Of the API, instead of that of the running `lastro up`.")
@click.option("--key", help="With the scopes spend, grant and read, instead of its development key.")
def demo(data: Path, url: str | None, key: str | None) -> None:
    """Play an AI-media shop against a running ledger, and account for every credit at the end."""
    from app.demo import run

    if url is None:
        settings = settings_of(data)
        url = f"http://{settings.host}:{settings.port}"
    if key is None:
        try:
            key = (data / "dev-key").read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise Refusal(
                f"No development key in {data}; start `make run`, name its folder with --data, or give --key"
            ) from None
    exit_by(run(url, key))
