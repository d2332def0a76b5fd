"""What the tests of webhooks share."""

from collections.abc import Iterator

import pytest

from tests.folders import reachable_folder
from tests.webhooks.doors import WithDoors


@pytest.fixture(scope="session")
def running() -> Iterator[WithDoors]:
    """For tests that leave it running, each with accounts and tasks of its own."""
    with reachable_folder() as folder:
        lastro_up = WithDoors(folder)
        lastro_up.start()
        yield lastro_up
        lastro_up.stop()
