"""The row of clusters: CPU time is told of the right process, and what was answered is counted again."""

import os
import time

import pytest

from tests.bench.bed import Bed
from tests.bench.rows import cluster
from tests.bench.rows.cluster import cpu_seconds
from tests.bench.sizes import Sizes, Told


def test_cpu_time_is_that_of_the_process():
    begun, before = time.process_time(), cpu_seconds(os.getpid())
    while time.process_time() - begun < 0.2:
        pass
    assert cpu_seconds(os.getpid()) - before == pytest.approx(time.process_time() - begun, abs=0.05)


@pytest.mark.nightly("eight servers for as good as no figure")
def test_clusters_are_loaded_and_counted(told: Told):
    with Bed() as bed:
        one, three = cluster.measure(bed, Sizes(1, 0.3, 0), told)
    assert one.reached is three.reached is None
    assert "; 0 mismatches" in three.beside
    assert [word in one.beside for word in ("primary 1 ", "replica 1 ", "primary 2 ")] == [True, True, False]
    assert all(f"{word} {number} " in three.beside for word in ("primary", "replica") for number in (1, 2, 3))
