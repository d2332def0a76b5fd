"""What Stripe tells of payments."""

import time
from typing import Any

import httpx

from tests.http.doors import told


def event(kind: str, about: dict[str, Any], name: str = "evt_1", **more: Any) -> dict[str, Any]:
    return {"id": name, "type": kind, "created": int(time.time()), "data": {"object": about} | more}


def checkout(credits_: str = "100", payment: str = "pi_1", **more: Any) -> dict[str, Any]:
    about = {
        "payment_status": "paid",
        "payment_intent": payment,
        "client_reference_id": "alice",
        "metadata": {"lastro_credits": credits_},
    }
    return event("checkout.session.completed", about | more)


def refunded(before: int, after: int, total: int = 999, payment: str = "pi_1") -> dict[str, Any]:
    charge = {"id": "ch_1", "payment_intent": payment, "amount": total, "amount_refunded": after}
    return event("charge.refunded", charge, f"evt_{after}", previous_attributes={"amount_refunded": before})


def disputed(payment: str = "pi_1") -> dict[str, Any]:
    dispute = {"id": "dp_1", "payment_intent": payment, "amount": 999, "status": "needs_response"}
    return event("charge.dispute.created", dispute)


async def pay(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    return await told(client, "stripe", body)
