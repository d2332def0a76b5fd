"""Outgoing events: made once, kept until they are delivered, sent by workers.

`outbox` keeps them, `deriving` makes them of the journal and `watching` of what time brings about,
`delivering` sends them, and `managed` is what operators see and set.
"""

from persistence.events.outbox import Outbox

__all__ = ["Outbox"]
