"""The row of several API processes: each has its part of the load, and what all answered is counted again."""

import pytest

from tests.bench.bed import Bed
from tests.bench.rows import processes
from tests.bench.sizes import Sizes, Told


@pytest.mark.nightly("four API processes for as good as no figure")
def test_several_processes_are_loaded_together_and_counted(told: Told):
    with Bed() as bed:
        two, four = processes.measure(bed, Sizes(1, 1.0, 0), told)
    assert two.reached is four.reached is None
    assert two.beside.endswith("; 0 mismatches, 0 errors")
    assert "2 API processes" in two.measure
    assert "4 API processes" in four.measure
