"""Doors of webhooks that are on, and what comes to them: bodies as the providers send them, signed by us."""

import time
from typing import Any

import httpx
import msgspec

from app.settings import Settings
from app.webhooks import callback
from app.webhooks.providers import PROVIDERS
from app.webhooks.stripe import STRIPE
from tests.http.steps import do

MASTERS = ("the-first-master-secret-of-thirty-two-bytes", "another-master-secret-that-is-long-enough")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PUBLIC = "https://credits.example/lastro"
# The private key of the vectors (bytes 0 to 31), base64url, and its public one.
FAL_PRIVATE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
FAL_PUBLIC = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
FAL_JWKS = f'{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{FAL_PUBLIC}"}}]}}'


def with_doors(settings: Settings, **more: str) -> Settings:
    """The settings with every door on."""
    on = {
        "public_url": PUBLIC + "/",
        "webhook_master_secrets": ", ".join(MASTERS),
        "webhook_replicate_secrets": SECRET,
        "webhook_fal_jwks": FAL_JWKS,
        "webhook_bfl_secrets": f"{SECRET},callback",
        "webhook_kling_secrets": "callback",
        "webhook_sync_secrets": SECRET,
        "webhook_heygen_secrets": SECRET,
        "webhook_luma_secrets": "callback",
        "webhook_stripe_secrets": SECRET,
        "webhook_generic_secrets": f"{SECRET},callback",
    }
    return msgspec.structs.replace(settings, **(on | more))


SUCCEEDED: dict[str, Any] = {
    "replicate": lambda task: {"id": task, "status": "succeeded", "metrics": {"predict_time": 2.5}},
    "fal": lambda task: {
        "request_id": task,
        "gateway_request_id": "g",
        "status": "OK",
        "payload": {"seed": 1},
    },
    "bfl": lambda task: {"id": task, "status": "Ready", "result": {"sample": "https://x.example/1.jpeg"}},
    "kling": lambda task: {"id": task, "status": "succeeded", "message": ""},
    "sync": lambda task: {"id": task, "status": "COMPLETED", "outputDuration": 3},
    "heygen": lambda task: {"event_type": "avatar_video.success", "event_data": {"video_id": task}},
    "luma": lambda task: {"id": task, "state": "completed"},
    "generic": lambda task: {"taskId": task, "status": "succeeded"},
}
FAILED: dict[str, Any] = {
    "replicate": lambda task: {"id": task, "status": "failed", "error": "out of memory"},
    "fal": lambda task: {"request_id": task, "status": "ERROR", "error": "broken"},
    "bfl": lambda task: {"id": task, "status": "Content Moderated"},
    "kling": lambda task: {"id": task, "status": "failed", "message": "no"},
    "sync": lambda task: {"id": task, "status": "FAILED", "error": "no face"},
    "heygen": lambda task: {"event_type": "avatar_video.fail", "event_data": {"video_id": task, "msg": "no"}},
    "luma": lambda task: {"id": task, "state": "failed", "failure_reason": "no"},
    "generic": lambda task: {"taskId": task, "status": "failed"},
}
SIGNING = tuple(name for name in SUCCEEDED if name not in ("kling", "luma"))


async def deliver(
    client: httpx.AsyncClient,
    provider: str,
    body: dict[str, Any] | bytes,
    *,
    secret: str = SECRET,
    path: str = "",
    now: float | None = None,
    signed: bool = True,
) -> httpx.Response:
    """What the provider would post, to its door or to the callback URL `path`."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = {}
    if signed:
        identity = body["request_id"] if provider == "fal" and isinstance(body, dict) else "msg_1"
        of = STRIPE if provider == "stripe" else PROVIDERS[provider]
        key = FAL_PRIVATE if provider == "fal" else secret
        headers = of.sign(raw, key, time.time() if now is None else now, identity)
    return await client.post(path or f"/api/webhooks/{provider}", content=raw, headers=headers)


async def told(client: httpx.AsyncClient, provider: str, body: dict[str, Any], **more: Any) -> str:
    """The same, and what came of it."""
    answer = await deliver(client, provider, body, **more)
    assert 200 == answer.status_code, answer.text
    return answer.json()["status"]


async def reserved(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """A reservation of 50 of alice's credits, of which she has got 100 more for it."""
    await do(client, "grant", accountId="alice", amount=100)
    return await do(client, "reserve", **{"accountId": "alice", "amount": 50} | body)


def url(provider: str, reservation: str, master: str = MASTERS[0]) -> str:
    """The path of a callback URL."""
    return f"/api/webhooks/{provider}/{reservation}/{callback.token(master, provider, reservation)}"


async def inbox(client: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    """What the inbox shows."""
    answer = await client.get("/api/credits/webhooks", params=query)
    assert 200 == answer.status_code, answer.text
    return answer.json()["data"]
