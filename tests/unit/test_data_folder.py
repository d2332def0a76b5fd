"""What `lastro up` tells other commands, and shells, about what runs in its folder."""

import subprocess

from app.up.data import DataFolder, read_environment

GIVEN = {
    "LASTRO_REDIS_URL": "redis://:pass@127.0.0.1:6379/0?a=b&c=d",
    "LASTRO_QUEUE_URL": "",
    "LASTRO_WEBHOOK_FAL_JWKS": '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"A6E"}]}',
    "LASTRO_WEBHOOK_SYNC_SECRETS": "it's $(no) `one's`; # business\\ ",
}


def test_settings_come_back_as_they_were_to_commands_and_to_shells(tmp_path):
    folder = DataFolder(tmp_path / "data")
    folder.write_environment(GIVEN)
    assert GIVEN == read_environment(folder.path)
    told = subprocess.run(
        ["/bin/sh", "-c", "set -a; . ./env; exec env -0"], cwd=folder.path, capture_output=True, check=True
    )
    said = dict(each.split("=", 1) for each in told.stdout.decode().split("\0") if each)
    assert GIVEN.items() <= said.items()
    folder.close()
