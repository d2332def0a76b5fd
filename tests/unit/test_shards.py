"""Where things live, and ids that say so."""

import uuid
import zlib

import pytest

from app.ledger.shards import (
    SHARDS_MAX,
    TransactionId,
    new_reservation_id,
    shard_of,
    shard_of_reservation,
)


def test_the_shard_of_an_account_never_changes():
    assert [2, 2, 0] == [shard_of("ana", shards) for shards in (16, 4, 1)]
    assert all(zlib.crc32(f"a{i}".encode()) % 16 == shard_of(f"a{i}", 16) for i in range(100))


def test_accounts_spread_over_the_shards():
    counts = [0] * 16
    for i in range(16_000):
        counts[shard_of(f"user-{i}", 16)] += 1
    assert min(counts) > 800
    assert max(counts) < 1_200


@pytest.mark.parametrize("shard", [0, 1, 15, 255, 4095])
def test_a_reservation_id_is_a_uuid_of_version_7_that_carries_its_shard(shard):
    made = new_reservation_id(shard, 1_763_754_000_123)
    parsed = uuid.UUID(made)
    assert (7, uuid.RFC_4122, made) == (parsed.version, parsed.variant, str(parsed))
    assert 1_763_754_000_123 == parsed.int >> 80
    assert shard == shard_of_reservation(made, SHARDS_MAX)


def test_reservation_ids_are_never_the_same():
    assert 10_000 == len({new_reservation_id(3, 5) for _ in range(10_000)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ana",
        "00000000-0000-4000-8000-000000000001",
        "00000000-0000-7000-7000-000000000001",
        "00000000-0000-7010-8000-000000000001",  # shard 16 of 16
        "00000000-0000-7000-8000-00000000000G",
        "00000000-0000-7000-8000-000000000001\n",
        "00000000-0000-700A-8000-000000000001",
        "00000000000070008000000000000001",
    ],
)
def test_an_id_that_this_ledger_cannot_have_made_has_no_shard(text):
    assert shard_of_reservation(text, 16) is None


def test_a_transaction_id_is_read_as_it_is_written():
    assert TransactionId(4095, 7, 9_007_199_254_740_991) == TransactionId.parse("4095-7-9007199254740991")
    assert "0-1-1" == str(TransactionId(0, 1, 1))


@pytest.mark.parametrize(
    "text",
    ["", "0-1", "0-1-0", "00-1-1", "0-01-1", "-1-1-1", "0-1-1\n", "0-1-1-1", "٣-1-1", "10000-1-1", "a-b-c"],
)
def test_a_text_of_another_shape_is_no_transaction_id(text):
    assert TransactionId.parse(text) is None
