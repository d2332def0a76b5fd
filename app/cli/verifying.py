"""`lastro verify`: the journal against its own chain, and against heads that were kept elsewhere."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app.cli.progress import counting
from app.cli.shared import data_option, exit_by, settings_of

if TYPE_CHECKING:
    from app.cli.progress import Counter
    from persistence.verify import Head, Verdict


@click.command(short_help="Prove that the journal is as it was written.")
@data_option
@click.option(
    "--from",
    "since",
    type=click.IntRange(1),
    metavar="SEQ",
    help="The first entry of each shard to recompute; 1 for all.  [default: after what was proved before]",
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="SHARD:SEQ:HEX",
    help="One that was kept elsewhere. May be repeated.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, exists=True),
    help="A backup (file or folder) whose heads are to be in the chain.",
)
@click.option("--json", "as_json", is_flag=True, help="The verdict as JSON, with each shard's head.")
def verify(
    data: Path, since: int | None, heads: tuple[str, ...], manifest: Path | None, as_json: bool
) -> None:
    """Prove that no row of the journal was changed, removed or added, and name the first that was.

    Recomputes the hash chain, derives every column from its entry, compares notes with their hashes. Only
    reads. Whoever can change rows can compute the chain anew; that is found by a head kept elsewhere, so a
    proof with --head or --manifest recomputes all.

    Exit codes: 0 proved, 1 something was found, 2 could not tell.
    """
    import msgspec

    from persistence.session import connect
    from persistence.verify import verify as prove

    settings = settings_of(data)
    kept = [_head(each) for each in heads]
    ledger, of_manifest = _heads_of(manifest) if manifest else (None, [])

    async def run(counter: "Counter") -> "Verdict":
        connection = await connect(settings.database_url, name="lastro verify")
        try:
            return await prove(
                connection,
                since=since,
                heads=[*kept, *of_manifest],
                ledger=ledger,
                expect=counter.expect,
                seen=counter.add,
            )
        finally:
            await connection.close()

    with counting("rows recomputed") as counter:
        verdict = asyncio.run(run(counter))
    if as_json:
        click.echo(msgspec.json.encode(verdict))
    else:
        _tell(verdict, len(kept) + len(of_manifest))
    exit_by(not verdict.findings)


def _tell(verdict: "Verdict", kept: int) -> None:
    for finding in verdict.findings:
        click.echo(finding.why)
    if verdict.findings:
        click.echo(f"ledger {verdict.ledger} is not as it was written; what to do: docs/backups.md")
        return
    erased = f", the notes of {verdict.erased:,} erased on purpose" if verdict.erased else ""
    against = f", {kept} heads kept elsewhere found in the chain" if kept else ""
    click.echo(f"ledger {verdict.ledger}: {verdict.rows:,} rows as they were written{erased}{against}")


def _head(text: str) -> "Head":
    from persistence.verify import Head

    try:
        shard, sequence, digest = text.split(":")
        head = Head(int(shard), int(sequence), bytes.fromhex(digest))
    except ValueError:
        head = None
    if head is None or head.sequence < 0 or len(head.hash) != 32:  # noqa: PLR2004 - of SHA-256
        raise click.UsageError(f"--head {text}: give the shard, the sequence and 64 hex digits, with colons")
    return head


def _heads_of(path: Path) -> "tuple[str, list[Head]]":
    """The ledger and the heads of a backup."""
    from persistence.backup.reading import Backup
    from persistence.verify import Head

    manifest = Backup(path).manifest
    heads = [Head(each.shard, each.cursor, bytes.fromhex(each.head)) for each in manifest.shards]
    return manifest.ledger, heads
