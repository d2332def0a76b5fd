"""What the commands say in common."""

import os

import click
import pytest
from click.testing import CliRunner

from app.cli import cli
from app.cli.refusals import Commands
from app.ledger.alike import alike, named, says, together


@pytest.mark.parametrize(
    ("shards", "text"),
    [([3], "shard 3"), ([0, 1], "shards 0, 1"), ([0, 1, 2, 5, 7, 8], "shards 0 to 2, 5, 7, 8")],
)
def test_shards_are_named_by_their_runs(shards, text):
    assert text == named(shards)


def test_what_is_true_of_one_is_said_of_one():
    assert ("shard 3 is open", "shards 3, 4 are open") == tuple(
        says(each, "is open", "are open") for each in ([3], [3, 4])
    )


def test_reasons_that_name_their_own_shard_are_one_reason():
    lost = {shard: f"Redis has nothing of shard {shard}: lost" for shard in (1, 2, 11)}
    found = alike({**lost, 4: "Fenced by the operator: a look at shard 1", 5: "alone, of shard 5"})
    assert found == [
        ([1, 2, 11], "Redis has nothing of the shard: lost"),
        ([4], "Fenced by the operator: a look at shard 1"),
        ([5], "alone, of shard 5"),
    ]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyboardInterrupt(), "Cut off. The same command goes on, or begins again."),
        (click.Abort(), "Nobody said yes, and nothing was changed. --yes does not ask."),
        (ConnectionRefusedError(111, "refused"), "PostgreSQL does not answer: [Errno 111] refused"),
        (FileExistsError(17, "File exists", "kept"), "kept: File exists"),
    ],
)
def test_what_could_not_be_done_is_one_sentence_and_not_a_finding(error, said):
    @click.group(cls=Commands)
    def commands() -> None:
        """For the test."""

    @commands.command()
    def fail() -> None:
        raise error

    done = CliRunner().invoke(commands, ["fail"])
    assert (2, f"Error: {said}") == (done.exit_code, done.output.strip())


def test_the_list_of_commands_cuts_none_of_them_off():
    assert "..." not in CliRunner().invoke(cli, ["--help"]).output.partition("Commands:")[2]


def test_sentences_that_say_the_same_of_several_shards_become_one():
    fenced = [f"Shard {shard} is fenced: nothing of shard {shard}." for shard in (2, 0, 1)]
    assert [
        "Shards 0 to 2 are fenced: nothing of the shard.", "Shard 7 cannot be looked at.", "Something else."
    ] == together([*fenced, "Something else.", "Shard 7 cannot be looked at."])  # fmt: skip


def test_of_a_great_many_shards_the_first_are_named():
    assert named(list(range(0, 4096, 2))).endswith(", 30, ... (2,048 in all)")


def test_the_folder_in_which_nothing_runs_is_named(tmp_path, monkeypatch):
    for name in [each for each in os.environ if each.startswith("LASTRO_")]:
        monkeypatch.delenv(name)
    for command in (["doctor"], ["demo"]):
        told = CliRunner().invoke(cli, [*command, "--data", str(tmp_path / "there")])
        assert 2 == told.exit_code
        assert f"o running `lastro up` was found in {tmp_path / 'there'}" in told.stderr


def test_opening_balances_are_named_once():
    told = CliRunner().invoke(cli, ["import", "--balances", __file__, "--balances", __file__])
    assert (2, True) == (told.exit_code, "one file" in told.stderr)
