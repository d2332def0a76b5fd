"""What the shop sells, and what it costs."""

from random import Random

from msgspec import Struct


class Product(Struct, frozen=True, kw_only=True):
    """A model of a provider. `share`: how often it is ordered, against the others.

    `credits` for one piece; where there are `lengths` (in tenths of a second, so that no float comes near
    credits), a second that was begun counts, and one credit is added: 50 s cost 51, 12 s cost 13.
    """

    model: str
    provider: str
    share: int
    credits: int = 0
    lengths: tuple[int, ...] = ()
    at_once: bool = False

    def price(self, tenths: int) -> int:
        """In credits, for that length."""
        return -(-tenths // 10) + 1 if self.lengths else self.credits


class Order(Struct, frozen=True):
    """One piece of work that somebody wants. `tenths` of a second, 0 where length means nothing."""

    product: Product
    tenths: int

    @property
    def credits(self) -> int:
        return self.product.price(self.tenths)

    @property
    def metadata(self) -> dict[str, str]:
        return {"seconds": f"{self.tenths // 10}.{self.tenths % 10}"} if self.tenths else {"pieces": "1"}


CATALOGUE = (
    Product(model="lip-sync", provider="sync", share=35, lengths=(74, 120, 120, 120, 200, 315, 500)),
    Product(model="text-to-image", provider="bfl", share=35, credits=1),
    Product(model="upscale-4x", provider="replicate", share=20, credits=4),
    Product(model="caption", provider="replicate", share=10, credits=1, at_once=True),
)


def order(rng: Random) -> Order:
    """What the next customer wants."""
    (product,) = rng.choices(CATALOGUE, [each.share for each in CATALOGUE])
    return Order(product, rng.choice(product.lengths) if product.lengths else 0)
