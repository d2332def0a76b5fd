"""`python -m tests.bench [--rows 1,2,...] [--seconds S] [--rounds N] [--write]`."""

import argparse
import sys


def main() -> int:
    from tests.bench.bed import Bed
    from tests.bench.rows import engine
    from tests.bench.sizes import Sizes, Told
    from rich.progress import Progress
    with Progress() as progress, Bed() as bed:
        for line in engine.measure(bed, Sizes(3, 1.0), Told(progress, progress.add_task("x", what=""))):
            print(line)
    return 0

sys.exit(main())
