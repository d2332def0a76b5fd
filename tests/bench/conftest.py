"""A progress line that nobody sees, for rows that are measured by tests."""

import pytest
from rich.progress import Progress

from tests.bench.sizes import Told


@pytest.fixture
def told() -> Told:
    progress = Progress(disable=True)
    return Told(progress, progress.add_task(""))
