"""A whole ledger with data: what `lastro demo` leaves behind, and callbacks of every kind."""

import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from app.webhooks.providers import PROVIDERS
from tests.integration.running import LASTRO, ROOT, environment
from tests.webhooks.deliveries import OTHERS, SECRETS
from tests.webhooks.doors import WithDoors

DEMO_SECONDS = 3
ACCOUNTS = 16
SHARDS = 4


class Shop(WithDoors):
    """A `lastro up --ephemeral` with every door of webhooks open; small, because much of it is looked at."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "--ephemeral")

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "LASTRO_SHARDS": str(SHARDS)}

    def open(self) -> None:
        """Start it, and have it traded with."""
        self.start()
        self.data = Path(self.line("logs")).parent
        arguments = ["demo", "--seconds", str(DEMO_SECONDS), "--accounts", str(ACCOUNTS)]
        demo = subprocess.Popen(
            [*LASTRO, *arguments, "--data", str(self.data)],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._be_called_back()
        said, _ = demo.communicate(timeout=60)
        assert 0 == demo.returncode, said

    @property
    def url(self) -> str:
        return self.line("ready")

    def _be_called_back(self) -> None:
        self.did("grant", accountId="ana", amount=1_000, bucket="plan")
        for number in range(4):
            for provider in ("replicate", "sync"):
                task = f"{provider}-task-{number}"
                self.did(
                    "reserve", accountId="ana", amount=20, provider=provider, taskId=task, modelId="video"
                )
                self.called_back(provider, task, failed=number == 3)
        self.called_back("replicate", "replicate-task-0", failed=True)  # against its ending
        for minutes in (5, 60, 600):
            self.did("reserve", accountId="ana", amount=30, ttlSeconds=minutes * 60, modelId="lip-sync")
        self.called_back("replicate", "nobody-knows")
        self.called_back("sync", "forged", secret=OTHERS["sync"])

    def called_back(
        self, provider: str, task: str, *, failed: bool = False, secret: str | None = None
    ) -> int:
        """What is answered to a callback of a provider."""
        words = {"replicate": ("succeeded", "failed"), "sync": ("COMPLETED", "FAILED")}[provider]
        body = json.dumps({"id": task, "status": words[failed]}).encode()
        headers = PROVIDERS[provider].sign(body, secret or SECRETS[provider], time.time(), f"msg_{task}")
        return httpx.post(f"{self.url}/api/webhooks/{provider}", content=body, headers=headers).status_code
