-- What providers told at the doors: one row for each task and ending, and what came of it.

-- path: the reservation whose callback URL was called. named: what the payload names; of rejected deliveries, which are
-- counted and not kept, the hour and the reason. own: the reservation that the payload names. payload: the JSON as it
-- came, for 30 days. reservation, account, resource, transaction, credits: what it was found to be about and what was done.
-- due: of money that went back, how many of the credits that it had bought were to be taken.
CREATE TABLE webhook_inbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  provider text NOT NULL,
  path text NOT NULL DEFAULT '',
  named text NOT NULL,
  outcome text NOT NULL CHECK (outcome IN ('succeeded', 'failed', 'progress', 'reversed', 'rejected')),
  word text,
  task text,
  own text,
  amount bigint CHECK (amount BETWEEN 0 AND 9007199254740991),
  reason text,
  payload text,
  status text NOT NULL CHECK (
    status IN ('received', 'verified', 'late', 'waiting', 'unknown', 'conflict', 'refused', 'rejected')
  ),
  why text,
  reservation text,
  account text,
  resource text,
  transaction text,
  credits bigint,
  due bigint CHECK (due >= 0),
  deliveries bigint NOT NULL DEFAULT 1 CHECK (deliveries >= 1),
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  settled_at timestamptz,
  CHECK ((outcome = 'rejected') = (status = 'rejected')),
  UNIQUE (provider, path, named, outcome)
);

CREATE INDEX webhook_inbox_open ON webhook_inbox (id) WHERE status IN ('received', 'waiting');
CREATE INDEX webhook_inbox_status ON webhook_inbox (status, id);
CREATE INDEX webhook_inbox_task ON webhook_inbox (task, id) WHERE task IS NOT NULL;
CREATE INDEX webhook_inbox_reservation ON webhook_inbox (reservation, id) WHERE reservation IS NOT NULL;
CREATE INDEX webhook_inbox_reversed ON webhook_inbox (id) WHERE outcome = 'reversed';
CREATE INDEX webhook_inbox_payload ON webhook_inbox (received_at) WHERE payload IS NOT NULL;
CREATE INDEX webhook_inbox_passing ON webhook_inbox (last_at) WHERE status IN ('rejected', 'unknown');
