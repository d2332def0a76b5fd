"""What the numbers look like: on the terminal, and in `docs/benchmarks.md`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Line
from tests.bench.sizes import Sizes

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"

_FOREWORD = """\
Written by `python -m tests.bench --write`. Every figure is the median of {} rounds of {:g} s, with the
lowest and the highest behind it. What is compared is measured in turns within one run, and a share is
the median of the shares of the rounds: machines change their speed from one second to the next.

Load, API, Valkey and PostgreSQL share the cores. Servers are the embedded ones; the AOF is `everysec`
unless a row says otherwise, and is never rewritten during a run. A ledger has 16 shards and 1000
accounts of two buckets; HTTP is one API process with an API key. A mismatch is an account that does not
hold what its entries add up to, an answer without its entry, or an entry without its request."""

LATER = {
    "10": "1 million accounts against 1 thousand: rate and p99; bytes of Redis",
    "12": "restore of 1 million accounts and 100k open reservations (row 12 has a tenth of that)",
}
"""Rows for which there is nothing to measure yet."""


def show(console: Console, lines: Sequence[Line], machine: Mapping[str, str]) -> None:
    """Print the table."""
    table = Table(
        "row",
        "measure",
        "figure",
        "must reach",
        "",
        title=" · ".join(f"{name}: {value}" for name, value in machine.items()),
    )
    for line in lines:
        colour = {True: "[green]reached", False: "[red]missed", None: ""}[line.reached]
        table.add_row(line.row, f"{line.measure}\n[dim]{line.beside}", line.figure, line.must, colour)
    console.print(table)


def write(lines: Sequence[Line], machine: Mapping[str, str], sizes: Sizes) -> None:
    """Write the document anew."""
    DOCUMENT.write_text(_document(lines, machine, sizes), encoding="utf-8")


def _document(lines: Sequence[Line], machine: Mapping[str, str], sizes: Sizes) -> str:
    rows = ["| row | measure | figure | must reach | | repeat with |", "|---|---|---|---|---|---|"]
    later = [Line(number, measure, "not measured yet") for number, measure in LATER.items()]
    for line in sorted([*lines, *later], key=lambda each: _number(each.row)):
        command = "" if line in later else f"`python -m tests.bench --rows {_number(line.row)}`"
        rows.append(
            f"| {line.row} | {line.measure} | {line.figure} | {line.must} | {line.verdict} | {command} |"
        )
    beside = [f"- **{line.row}** {line.measure}: {line.beside}." for line in lines if line.beside]
    return "\n".join([
        "# Benchmarks",
        "",
        _FOREWORD.format(sizes.rounds, sizes.seconds),
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        "",
        *rows,
        "",
        "Beside them:",
        "",
        *beside,
        "",
    ])  # fmt: skip


def _number(row: str) -> int:
    return int(row.rstrip("abc"))
