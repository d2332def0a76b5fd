from typing import Annotated, Literal

from msgspec import Meta

from app.settings.ledger import OfLedger
from app.settings.wording import left_out, variable


def _secrets(of: str, *, also: str = "") -> Meta:
    """Of the webhooks of a provider. `also`: what may stand there instead."""
    return left_out("off", f"Secrets of the webhooks of {of}, comma list{also and '; '}{also}")


def _asked(who: str) -> Meta:
    """A provider that is asked itself."""
    return left_out("not asked", f"An API key of {who}, to ask how tasks stand that are silent")


class OfProviders(OfLedger, frozen=True, kw_only=True, rename=variable):
    """Providers: their webhooks, and those that are asked."""

    public_url: Annotated[
        str,
        left_out(
            "none are handed out",
            "Where providers find this API, for the callback URLs that `reserve` hands out",
        ),
    ] = ""
    webhook_master_secrets: Annotated[
        str,
        left_out(
            "none are handed out",
            "Of which the tokens and secrets of callback URLs are made: the first makes them, all open",
        ),
    ] = ""
    webhook_replicate_secrets: Annotated[str, _secrets("Replicate")] = ""
    webhook_bfl_secrets: Annotated[
        str, _secrets("Black Forest Labs", also="`callback`: of callback URLs")
    ] = ""
    webhook_kling_secrets: Annotated[
        str, _secrets("Kling", also="`callback`: unsigned, only by callback URL")
    ] = ""
    webhook_sync_secrets: Annotated[str, _secrets("Sync")] = ""
    webhook_heygen_secrets: Annotated[str, _secrets("HeyGen")] = ""
    webhook_luma_secrets: Annotated[
        str, left_out("off", "`callback`: webhooks of Luma, which signs nothing, by callback URL")
    ] = ""
    webhook_stripe_secrets: Annotated[str, _secrets("Stripe")] = ""
    webhook_generic_secrets: Annotated[
        str, _secrets("your own workers", also="`callback`: of callback URLs")
    ] = ""
    webhook_fal_jwks: Annotated[
        str, left_out("off", "Keys of the webhooks of fal: the URL of a JWKS, or the JWKS itself")
    ] = ""
    webhook_units: Annotated[
        str,
        left_out(
            "what is held is confirmed",
            "Where callbacks say how many units were used, to be confirmed at the reservation's price: "
            "`replicate=/metrics/predict_time,sync=/outputDuration`",
        ),
    ] = ""
    webhook_stripe_clawback: Annotated[
        Literal["off", "on"],
        Meta(description="Whether refunds and disputes take the credits back, as far as there are any"),
    ] = "off"
    poll_bfl_key: Annotated[str, _asked("Black Forest Labs")] = ""
    poll_luma_key: Annotated[str, _asked("Luma")] = ""
    poll_runway_key: Annotated[str, _asked("Runway")] = ""
    poll_sync_key: Annotated[str, _asked("Sync")] = ""
