-- What has been going on, added up, so that whoever looks at it does not read the journal.

-- How far the journal is counted here. A shard without a row: not at all.
CREATE TABLE usage_cursors (
  shard integer PRIMARY KEY,
  seq bigint NOT NULL CHECK (seq >= 0)
);

-- Locked by whoever counts. as_of: all that happened until then is counted; NULL: not known yet. counted: how many
-- entries. The others: how reservations stand.
CREATE TABLE usage_state (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  as_of timestamptz,
  counted bigint NOT NULL DEFAULT 0,
  pending bigint NOT NULL DEFAULT 0,
  confirmed bigint NOT NULL DEFAULT 0,
  cancelled bigint NOT NULL DEFAULT 0,
  expired bigint NOT NULL DEFAULT 0
);

INSERT INTO usage_state DEFAULT VALUES;

-- A span is a quarter of an hour, an hour, a day (of UTC), or all that ever was (start: 1970): whatever is asked for is
-- put together from the largest ones that fit into it. Any time zone's hours and days begin at a quarter.
CREATE TABLE usage_kinds (
  span text NOT NULL CHECK (span IN ('quarter', 'hour', 'day', 'ever')),
  start timestamptz NOT NULL,
  kind text NOT NULL,
  count bigint NOT NULL,
  credits numeric NOT NULL,
  PRIMARY KEY (span, start, kind)
);

-- credits: deducted and confirmed. confirmed and ended: reservations; reserved, captured and milliseconds (from the
-- reserve to the confirm): of those that were confirmed.
CREATE TABLE usage_models (
  span text NOT NULL CHECK (span IN ('quarter', 'hour', 'day', 'ever')),
  start timestamptz NOT NULL,
  model text NOT NULL,
  transactions bigint NOT NULL,
  credits numeric NOT NULL,
  confirmed bigint NOT NULL,
  ended bigint NOT NULL,
  reserved numeric NOT NULL,
  captured numeric NOT NULL,
  milliseconds numeric NOT NULL,
  PRIMARY KEY (span, start, model)
);

-- The quarters in which an account was active. pause: how many quarters after the one before; NULL: it is the first.
CREATE TABLE usage_accounts (
  account text NOT NULL,
  start timestamptz NOT NULL,
  pause integer,
  spent numeric NOT NULL,
  refunded numeric NOT NULL,
  transactions bigint NOT NULL,
  reservations bigint NOT NULL,
  last_at timestamptz NOT NULL,
  PRIMARY KEY (account, start)
);

CREATE INDEX usage_accounts_start ON usage_accounts (start);

-- Those pauses by how long they were: how many began after a span, how many ended in it. From this it is
-- known how many different accounts were active in a time (persistence/monitoring/activity.py).
CREATE TABLE usage_pauses (
  span text NOT NULL CHECK (span IN ('quarter', 'hour', 'day')),
  start timestamptz NOT NULL,
  class smallint NOT NULL,
  began bigint NOT NULL,
  ended bigint NOT NULL,
  PRIMARY KEY (span, start, class)
);

-- What is looked at as a whole, made anew now and then: `balances`, and for each period the accounts that spent most
-- since. counted: how many entries were by then.
CREATE TABLE usage_snapshots (
  name text PRIMARY KEY,
  counted bigint NOT NULL,
  since timestamptz,
  as_of timestamptz,
  body text NOT NULL
);
