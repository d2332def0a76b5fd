-- What other systems are told, to whom, and how far that has come; and providers that are asked because they are silent.

-- types: what is wanted, all where it is empty. secret: what deliveries are signed with, so that it must be readable.
CREATE TABLE event_endpoints (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  url text NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
  types text[] NOT NULL DEFAULT '{}',
  secret text NOT NULL,
  enabled boolean NOT NULL DEFAULT true,
  why_off text,
  by text NOT NULL,
  created_at timestamptz NOT NULL,
  CHECK (enabled = (why_off IS NULL))
);

-- body: what is sent, to the letter. once: names what must be told once only. number: the order of the log.
CREATE TABLE events (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
  type text NOT NULL,
  account text,
  at timestamptz NOT NULL,
  body text NOT NULL,
  once text UNIQUE
);

CREATE INDEX events_at ON events (at);
CREATE INDEX events_account ON events (account, number) WHERE account IS NOT NULL;

-- due_at: when it is tried next, or tried again if whoever tries it now is not heard of. dead: given up.
CREATE TABLE event_deliveries (
  event uuid NOT NULL REFERENCES events ON DELETE CASCADE,
  endpoint uuid NOT NULL REFERENCES event_endpoints ON DELETE CASCADE,
  state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
  attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  due_at timestamptz NOT NULL,
  tried_at timestamptz,
  status integer,
  error text,
  PRIMARY KEY (event, endpoint)
);

CREATE INDEX event_deliveries_waiting ON event_deliveries (endpoint, due_at) WHERE state = 'waiting';
CREATE INDEX event_deliveries_dead ON event_deliveries (event) WHERE state = 'dead';

-- How far events have been made of a shard's journal. A row is locked by whoever makes them.
CREATE TABLE event_cursors (
  shard integer PRIMARY KEY,
  seq bigint NOT NULL CHECK (seq >= 0)
);

-- Accounts of which it was told that they have little, or nothing, and that have not risen far enough since to be told
-- of again: only those where the balance alone does not say so.
CREATE TABLE event_levels (
  account text PRIMARY KEY,
  low boolean NOT NULL,
  depleted boolean NOT NULL
);

-- Where the walk along lots that lapse soon has come to.
CREATE TABLE event_walk (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  expires_at_ms bigint NOT NULL DEFAULT 0,
  account text NOT NULL DEFAULT '',
  bucket text NOT NULL DEFAULT ''
);

INSERT INTO event_walk DEFAULT VALUES;

-- Reservations whose provider was asked how the task stands: how often, and when it is asked again.
CREATE TABLE asked (
  reservation uuid PRIMARY KEY,
  times integer NOT NULL CHECK (times >= 1),
  next_at timestamptz NOT NULL
);

-- What is due soon. Deadlines only rise, so that new ones come at the end of the index.
CREATE INDEX reservations_deadline ON reservations (expires_at) WHERE status = 'pending';

-- Of the few providers that can be asked.
CREATE INDEX reservations_asked ON reservations (expires_at)
  WHERE status = 'pending' AND task IS NOT NULL AND provider IN ('bfl', 'luma', 'runway', 'sync');

-- Lots by when they lapse; those that never do cost nothing.
CREATE INDEX lots_expiry ON lots (expires_at_ms, account, bucket) WHERE expires_at_ms > 0;

-- Where the threshold of an account was changed.
CREATE INDEX journal_thresholds ON journal (account, version)
  WHERE kind IN ('configured', 'adjusted') AND strpos(entry, '"low_balance"') > 0;
