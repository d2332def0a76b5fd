-- What makes the two stores trustworthy together: who fenced what, who was admitted when, what was compared,
-- repaired, salvaged, erased, verified and kept elsewhere.

ALTER TABLE shards
  ADD COLUMN fenced_by text CHECK (fenced_by IN ('admission', 'journal', 'operator', 'restore', 'reconciliation')),
  -- The server at which the admission found the fault; the number below which a fence in Redis has been lifted.
  ADD COLUMN fenced_server text,
  ADD COLUMN lifted bigint NOT NULL DEFAULT 0,
  ADD COLUMN verified_seq bigint NOT NULL DEFAULT 0 CHECK (verified_seq >= 0),
  ADD COLUMN verified_at timestamptz;

-- Where the Redis of each incarnation stood when it was admitted: whoever acknowledged more has lost it.
CREATE TABLE incarnations (
  shard integer NOT NULL,
  incarnation bigint NOT NULL,
  server text NOT NULL,
  sequence bigint NOT NULL,
  link text NOT NULL,
  admitted_at timestamptz NOT NULL DEFAULT now(),
  -- When Redis was first seen to let calls in under it. Not every number comes so far.
  served_at timestamptz,
  PRIMARY KEY (shard, incarnation)
);

-- Servers that were at fault when the operator went on with another one: what they show fences nobody any more.
CREATE TABLE refused_servers (
  server text PRIMARY KEY,
  why text NOT NULL,
  refused_at timestamptz NOT NULL DEFAULT now()
);

-- Redis servers that are alive: whoever serves from an admitted one says so every second.
CREATE TABLE served_servers (
  server text PRIMARY KEY,
  seen_at timestamptz NOT NULL DEFAULT now()
);

-- Servers that are at fault while another one is admitted: since when they are looked at, and whether that one
-- was seen alive after them. Such a one is no replacement of it, and fences nobody.
CREATE TABLE intruders (
  server text PRIMARY KEY,
  since timestamptz NOT NULL DEFAULT clock_timestamp(),
  looked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  outlived boolean NOT NULL DEFAULT false
);

CREATE TABLE acknowledged_lost (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  shard integer NOT NULL,
  incarnation bigint NOT NULL,
  first_seq bigint NOT NULL,
  last_seq bigint NOT NULL,
  operations jsonb NOT NULL,
  process text NOT NULL,
  reported_at timestamptz NOT NULL DEFAULT now()
);

-- Entries that a Redis had and that are not in the journal's history. Kept word for word.
CREATE TABLE orphans (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  shard integer NOT NULL,
  seq bigint NOT NULL,
  entry text NOT NULL,
  notes text,
  sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
  why text NOT NULL,
  salvaged_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (shard, seq, sha256)
);

CREATE TABLE reconciliations (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'equal', 'drift', 'unknown')),
  by text NOT NULL,
  accounts bigint NOT NULL DEFAULT 0,
  drift jsonb NOT NULL DEFAULT '[]',
  why text,
  position jsonb
);

CREATE INDEX reconciliations_started ON reconciliations (started_at);

CREATE TABLE repairs (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT now(),
  by text NOT NULL,
  account text NOT NULL,
  side text NOT NULL CHECK (side IN ('redis', 'projection')),
  before jsonb NOT NULL,
  after jsonb NOT NULL,
  transaction text,
  reason text
);

-- Notes that were erased on purpose: their entry still carries the hash. `reason` is not personal text.
CREATE TABLE erasures (
  shard integer NOT NULL,
  seq bigint NOT NULL,
  erased_at timestamptz NOT NULL DEFAULT now(),
  by text NOT NULL,
  reason text NOT NULL,
  PRIMARY KEY (shard, seq)
);

-- Scheduled ones. removed_at: when its file went because there were enough newer ones.
CREATE TABLE backups (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  removed_at timestamptz,
  path text NOT NULL,
  entries bigint,
  bytes bigint,
  error text
);

-- What rebuilding and reconciling walk along: the accounts of a shard, and its open reservations.
CREATE INDEX accounts_shard ON accounts (shard, account);

DROP INDEX reservations_open;

CREATE INDEX reservations_pending ON reservations (shard, account, id) WHERE status = 'pending';
