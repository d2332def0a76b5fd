"""`lastro simulate`: what a provider would send, to try a deployment without it."""

import asyncio
import base64
import hashlib
import re
import secrets
import time
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click
from msgspec.structs import replace

from app.cli.refusals import Refusal
from app.cli.shared import data_option, exit_by, settings_of

if TYPE_CHECKING:
    from app.webhooks.event import Outcome
    from app.webhooks.simulated import Told

_SENDERS = ("replicate", "fal", "bfl", "kling", "sync", "heygen", "luma", "generic", "stripe")
_PATH = re.compile(
    r"(?P<api>https?://[^?#]+?)/*"
    r"(?:/api/webhooks?/(?P<sender>[a-z]+)(?:/(?P<reservation>[0-9a-f-]{36})/[^/?#]+)?)?"
)
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,18})?", re.ASCII)
_ANSWER_SECONDS = 30.0
_SHOWN_MAX = 300


class _Delivery(NamedTuple):
    outcome: "Outcome"
    headers: dict[str, str]
    body: bytes


def _units(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Decimal | None:
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no number like 12 or 12.5")
    return Decimal(value)


@click.command(short_help="Send webhooks as a provider would.")
@data_option
@click.argument("sender", type=click.Choice(_SENDERS), metavar="SENDER")
@click.option("--url", help="Of the API, or a callback URL that reserve answered.  [default: of `lastro up`]")
@click.option("--task", help="The provider's id of the task; of stripe the payment intent.")
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice(["succeeded", "failed", "progress"]),
    default=("succeeded",),
    show_default=True,
    help="May be repeated: one after another. Of stripe: paid, refunded, not yet paid.",
)
@click.option("--units", callback=_units, metavar="NUMBER", help="What was used, in the payload's own place.")
@click.option("--amount", type=click.IntRange(0), help="Credits: generic confirms them, stripe sold them.")
@click.option("--account", help="Who bought them, of stripe.")
@click.option("--times", type=click.IntRange(1, 1000), default=1, help="Each so many times at once.")
@click.option("--reorder", is_flag=True, help="The last outcome first.")
@click.option("--late", type=click.IntRange(0), default=0, metavar="SECONDS", help="Signed so long ago.")
@click.option("--wrong-signature", is_flag=True, help="Signed by somebody else.")
@click.option("--secret", help="To sign with; of fal its private key.  [default: the first that is set]")
def simulate(  # noqa: PLR0917 - click's
    data: Path,
    sender: str,
    url: str | None,
    task: str | None,
    outcomes: "tuple[Outcome, ...]",
    units: Decimal | None,
    amount: int | None,
    account: str | None,
    times: int,
    reorder: bool,
    late: int,
    wrong_signature: bool,
    secret: str | None,
) -> None:
    """Send webhooks as SENDER would, and show what is answered.

    SENDER: replicate, fal, bfl, kling, sync, heygen, luma, generic or stripe.

    \b
    lastro simulate replicate --task abc --units 12.5
    lastro simulate bfl --url <callback url> --outcome failed --outcome succeeded --times 3
    lastro simulate stripe --task pi_1 --account alice --amount 500

    It signs with the secret that is set for the deployment, or with --secret. Against a callback URL the
    reservation is told where SENDER tells it, and --task may be left out.

    Exit codes: 0 answered as it should be (200; 401 where the signature is wrong or too old), 1 otherwise,
    2 could not be sent.
    """  # noqa: D301
    from app.webhooks.simulated import NeverSent, Told

    place = _place(_url_of(data) if url is None else url, sender)
    if task is None and not place.reservation:
        raise Refusal("--task is missing: only a callback URL says by itself what it is about")
    signer = _Signer(sender, _secret(data, sender, place, secret), wrong=wrong_signature)
    told = Told(
        outcome="succeeded",
        task=task or f"simulated-{secrets.token_hex(8)}",
        at=int(time.time()) - late,
        reservation=place.reservation,
        units=units,
        amount=amount,
        account=account,
    )
    try:
        deliveries = [signer.delivery(told, each) for each in outcomes]
    except NeverSent as error:
        raise Refusal(str(error)) from None
    if reorder:
        deliveries.reverse()
    right = signer.right_answer(late)
    if wrong_signature and signer.key is None:
        place = place.with_another_token()
    exit_by(asyncio.run(_send(place.url, deliveries, times, right)))


class _Place(NamedTuple):
    """Where it is sent to; `reservation`: that a callback URL is about."""

    url: str
    reservation: str | None

    def with_another_token(self) -> "_Place":
        last = self.url[-1]
        return self._replace(url=self.url[:-1] + ("0" if last != "0" else "1"))


def _place(url: str, sender: str) -> _Place:
    found = _PATH.fullmatch(url)
    if found is None:
        raise Refusal(f"--url {url} should be the URL of an API, or a callback URL of one")
    if found["sender"] not in (None, sender):
        raise Refusal(f"--url is the door of {found['sender']}, and not of {sender}")
    return _Place(url if found["sender"] else f"{found['api']}/api/webhooks/{sender}", found["reservation"])


def _url_of(data: Path) -> str:
    from app.up.readiness import Readiness

    settings = settings_of(data)
    return Readiness(settings.host, settings.port).url


def _secret(data: Path, sender: str, place: _Place, given: str | None) -> str | None:
    """What to sign with; `None` where nothing is signed."""
    from app.webhooks import callback
    from app.webhooks.configured import Doors
    from app.webhooks.providers import PROVIDERS
    from app.webhooks.schemes import UNSIGNED

    if given is not None:
        return given
    if sender == "fal":
        raise Refusal(_pair_for_fal())
    if sender != "stripe" and PROVIDERS[sender].scheme is UNSIGNED:
        return None if place.reservation else _demand_callback(sender)
    doors = Doors.of(settings_of(data))
    door = doors.open.get(sender)
    if door is not None and place.reservation and door.by_callback:
        return None if door.is_unsigned else callback.secret(doors.masters[0], place.reservation)
    listed = doors.stripe if sender == "stripe" else door.secrets if door else ()
    if not listed and door is not None and door.by_callback:
        _demand_callback(sender)
    if not listed:
        raise Refusal(f"LASTRO_WEBHOOK_{sender.upper()}_SECRETS names none to sign with; give --secret")
    return listed[0]


def _demand_callback(sender: str) -> NoReturn:
    raise Refusal(f"{sender} is proven by its callback URL here; give the one that reserve answered as --url")


def _pair_for_fal() -> str:
    """What to do where only fal has the key: another pair, made up for a try."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    def text(key: bytes) -> str:
        return base64.urlsafe_b64encode(key).decode().rstrip("=")

    private = Ed25519PrivateKey.generate()
    public = f'{{"kty":"OKP","crv":"Ed25519","x":"{text(private.public_key().public_bytes_raw())}"}}'
    return (
        "fal signs with a key of its own. To try a deployment, set "
        f"LASTRO_WEBHOOK_FAL_JWKS='{{\"keys\":[{public}]}}' there and give --secret "
        f"{text(private.private_bytes_raw())}"
    )


class _Signer:
    """Signs as a sender does, or as somebody who only knows how it does."""

    def __init__(self, sender: str, secret: str | None, *, wrong: bool) -> None:
        from app.webhooks.providers import PROVIDERS
        from app.webhooks.stripe import STRIPE

        self._sender = sender
        self._scheme = (STRIPE if sender == "stripe" else PROVIDERS[sender]).scheme
        self._wrong = wrong
        try:
            self.key = None if secret is None else self._scheme.key(secret)
        except ValueError as error:
            raise Refusal(f"--secret: of {sender} it {error}") from None
        if self.key is not None and wrong:
            self.key = hashlib.sha256(self.key).digest()

    def delivery(self, told: "Told", outcome: "Outcome") -> _Delivery:
        from app.webhooks.simulated import body

        of = body(self._sender, replace(told, outcome=outcome))
        # fal's request is its message; with others a message has an id of its own.
        identity = told.task if self._sender == "fal" else f"msg_{secrets.token_hex(12)}"
        headers = {} if self.key is None else self._scheme.sign(of, self.key, told.at, identity)
        return _Delivery(outcome, headers, of)

    def right_answer(self, late_seconds: int) -> int:
        """The status that the door should answer."""
        from app.webhooks.schemes import TOLERANCE_SECONDS

        too_old = self.key is not None and self._scheme.is_timed and late_seconds > TOLERANCE_SECONDS
        return HTTPStatus.UNAUTHORIZED if self._wrong or too_old else HTTPStatus.OK


async def _send(url: str, deliveries: list[_Delivery], times: int, right: int) -> bool:
    """Send all of them, show the answers, and say whether each was the right one."""
    import httpx

    good = True
    async with httpx.AsyncClient(timeout=_ANSWER_SECONDS, trust_env=False) as client:
        for each in deliveries:
            headers = {"content-type": "application/json", **each.headers}
            posts = (client.post(url, content=each.body, headers=headers) for _ in range(times))
            try:
                answers = await asyncio.gather(*posts)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise Refusal(f"{url} does not answer: {str(error) or type(error).__name__}") from None
            for answer in answers:
                wrong = "" if answer.status_code == right else f"  should be {right}"
                click.echo(f"{each.outcome:<9}  {answer.status_code}{wrong}  {_shown(answer.text)}")
                good = good and not wrong
    return good


def _shown(text: str) -> str:
    """An answer in one line, without what would steer the terminal."""
    return "".join(each if each.isprintable() else " " for each in text[:_SHOWN_MAX])
