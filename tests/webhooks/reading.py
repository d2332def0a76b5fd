"""Reads deliveries as the doors do."""

import pytest

from app.webhooks import runway
from app.webhooks.event import Delivery, Unreadable
from app.webhooks.providers import PROVIDERS

READ = {name: provider.read for name, provider in PROVIDERS.items()} | {"runway": runway.read}


def unreadable(name: str, delivery: Delivery) -> str:
    with pytest.raises(Unreadable) as caught:
        READ[name](delivery)
    return str(caught.value)
