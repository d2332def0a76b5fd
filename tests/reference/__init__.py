"""The ledger in plain Python: what the property tests, the chaos tests and the load generator all ask.

It takes the operations of `app.ledger.operations` and the time, and says what the ledger must answer. It
reads like the specification and is in no hurry: no batches, no retries, no storage.
"""

from tests.reference.accounts import Account, Lot
from tests.reference.check import Broken
from tests.reference.holds import Hold
from tests.reference.ledger import Reference
from tests.reference.outcomes import Applied, Line, Outcome, Refused, Seen

__all__ = ["Account", "Applied", "Broken", "Hold", "Line", "Lot", "Outcome", "Reference", "Refused", "Seen"]
