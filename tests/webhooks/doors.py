"""A whole ledger that runs, with every door open, as a person would try it."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from click.testing import CliRunner

from app.cli import cli
from app.up.data import read_environment
from tests.integration.running import LastroUp
from tests.webhooks.deliveries import FAL_PUBLIC, SECRETS

DOORS = {
    "LASTRO_PUBLIC_URL": "https://credits.example",
    "LASTRO_WEBHOOK_MASTER_SECRETS": "a master secret of at least 32 bytes",
    "LASTRO_WEBHOOK_FAL_JWKS": json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": FAL_PUBLIC}]}),
    "LASTRO_WEBHOOK_LUMA_SECRETS": "callback",
    "LASTRO_WEBHOOK_UNITS": "replicate=/metrics/predict_time",
    **{
        f"LASTRO_WEBHOOK_{name.upper()}_SECRETS": SECRETS[name]
        for name in ("replicate", "kling", "sync", "heygen", "stripe")
    },
    **{f"LASTRO_WEBHOOK_{name.upper()}_SECRETS": f"callback,{SECRETS[name]}" for name in ("bfl", "generic")},
}


class WithDoors(LastroUp):
    """With every door open."""

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), **DOORS}

    @property
    def port(self) -> int:
        return int(read_environment(self.data)["LASTRO_PORT"])

    def did(self, verb: str, **body: Any) -> dict[str, Any]:
        status, answer = self.post(f"/api/credits/{verb}", body)
        assert status in (200, 201), answer
        return answer

    def reserved(self, account: str, provider: str, task: str | None = None) -> tuple[str, str]:
        """The reservation of 40 of 100 credits, and its callback URL here."""
        self.did("grant", accountId=account, amount=100)
        more = {} if task is None else {"taskId": task}
        made = self.did("reserve", accountId=account, amount=40, provider=provider, **more)
        return made["reservation"][
            "id"
        ], f"http://127.0.0.1:{self.port}{urlsplit(made['callback']['url']).path}"

    def found(self, reservation: str) -> tuple[str, int, int]:
        _, now = self.get(f"/api/credits/reservations/{reservation}")
        return now["status"], now["captured"], now["released"]

    def available(self, account: str) -> int:
        return self.get(f"/api/credits/balance?accountId={account}")[1]["available"]

    def simulate(self, *arguments: object) -> list[tuple[str, int, str]]:
        """The outcome, the status and the word of each answer, all of which are right. In this process: to
        start another each time takes long.
        """
        done = CliRunner().invoke(cli, ["simulate", *map(str, arguments), "--data", str(self.data)])
        assert 0 == done.exit_code, done.output
        lines = [line.split(maxsplit=2) for line in done.output.splitlines()]
        return [(outcome, int(status), json.loads(said)["status"]) for outcome, status, said in lines]
