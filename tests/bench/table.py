"""What the numbers look like: on the terminal, and in `docs/benchmarks.md`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from tests.bench.figures import Line
from tests.bench.sizes import Sizes

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"

SOAK = "## Soak"
"""The head of the part that a run of its own writes."""

_FOREWORD = """\
Written by `python -m tests.bench --write`. Every figure is the median of {} rounds of {:g} s, with the
lowest and the highest behind it. What is compared is measured in turns within one run, and a share is
the median of the shares of the rounds: machines change their speed from one second to the next.

Load, API, Valkey and PostgreSQL share the cores. Servers are the embedded ones; the AOF is `everysec`
unless a row says otherwise, and is never rewritten during a run. A ledger has 16 shards and 1000
accounts of two buckets; HTTP is one API process with an API key. A mismatch is an account that does not
hold what its entries add up to, an answer without its entry, or an entry without its request."""


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
    for section in (line.section for line in lines if line.section):
        console.print(Markdown(f"## {section.title}\n\n{section.text}"))


def write(lines: Sequence[Line], machine: Mapping[str, str], sizes: Sizes, document: Path = DOCUMENT) -> None:
    """Write the document anew, and the pictures beside it. What a soak came to is kept."""
    soaked = _soaked(document)
    document.write_text(_document(lines, machine, sizes) + soaked, encoding="utf-8")
    for line in lines:
        for name, drawn in (line.section.pictures if line.section else {}).items():
            document.parent.joinpath("images", name).write_text(drawn, encoding="utf-8")


def _document(lines: Sequence[Line], machine: Mapping[str, str], sizes: Sizes) -> str:
    ordered = sorted(lines, key=lambda each: each.number)
    sections = [each.section for each in ordered if each.section]
    return "\n".join([
        "# Benchmarks",
        "",
        _FOREWORD.format(sizes.rounds, sizes.seconds),
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        "",
        "| row | measure | figure | must reach | | repeat with |",
        "|---|---|---|---|---|---|",
        *(_row(each) for each in ordered),
        "",
        "Beside them:",
        "",
        *(f"- **{each.row}** {each.measure}: {each.beside}." for each in lines if each.beside),
        "",
        *(f"## {each.title}\n\n{each.text}\n" for each in sections),
    ])  # fmt: skip


def _row(line: Line) -> str:
    cells = (line.row, line.measure, line.figure, line.must, line.verdict, f"`{line.repeat}`")
    return f"| {' | '.join(cells)} |"


def write_soak(line: Line, machine: Mapping[str, str], document: Path = DOCUMENT) -> None:
    """Put what a soak came to in the place of what one came to before; the rest stays as it is."""
    rest = document.read_text(encoding="utf-8").removesuffix(_soaked(document))
    text = "\n".join([
        SOAK,
        "",
        "A whole ledger (API, worker, cron) under mixed load: the last third is held against the first.",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        "",
        "| row | measure | figure | must reach | | repeat with |",
        "|---|---|---|---|---|---|",
        _row(line),
        "",
        f"{line.beside}.",
        "",
    ])  # fmt: skip
    document.write_text(rest + text, encoding="utf-8")


def _soaked(document: Path) -> str:
    """The document's part about the soak, which is its last; nothing if there is none."""
    _, found, rest = document.read_text(encoding="utf-8").partition(f"\n{SOAK}\n")
    return f"{SOAK}\n{rest}" if found else ""
