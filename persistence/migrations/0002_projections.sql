-- What the journal adds up to, moved in the same transaction as the rows.

CREATE TABLE accounts (
  account text PRIMARY KEY,
  shard integer NOT NULL,
  version bigint NOT NULL CHECK (version >= 1),
  available bigint NOT NULL CHECK (available BETWEEN -9007199254740991 AND 9007199254740991),
  held bigint NOT NULL CHECK (held BETWEEN 0 AND 9007199254740991),
  opened_at timestamptz NOT NULL,
  last_at timestamptz NOT NULL
);

-- expires_at_ms 0: never. since: the account's version when the lot last began to hold something.
CREATE TABLE lots (
  account text NOT NULL,
  bucket text NOT NULL,
  expires_at_ms bigint NOT NULL,
  priority integer NOT NULL,
  available bigint NOT NULL,
  held bigint NOT NULL CHECK (held >= 0),
  since bigint NOT NULL,
  PRIMARY KEY (account, bucket, expires_at_ms)
);

CREATE TABLE reservations (
  id uuid PRIMARY KEY,
  shard integer NOT NULL,
  account text NOT NULL,
  status text NOT NULL CHECK (status IN ('pending', 'confirmed', 'cancelled')),
  reserved bigint NOT NULL CHECK (reserved >= 1),
  captured bigint NOT NULL DEFAULT 0 CHECK (captured >= 0),
  charged bigint NOT NULL DEFAULT 0 CHECK (charged >= 0),
  released bigint NOT NULL DEFAULT 0 CHECK (released >= 0),
  held bigint NOT NULL CHECK (held >= 0),
  expires_at timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  settled_at timestamptz,
  cancel_cause text CHECK (cancel_cause IN ('requested', 'failed', 'expired')),
  late boolean NOT NULL DEFAULT false,
  extensions integer NOT NULL DEFAULT 0,
  task text,
  provider text,
  model text,
  reserved_seq bigint NOT NULL,
  bound_seq bigint,
  ended_seq bigint,
  CHECK (reserved = captured + released + held),
  CHECK ((status = 'pending') = (ended_seq IS NULL))
);

CREATE INDEX reservations_account ON reservations (account, id);
CREATE INDEX reservations_task ON reservations (task, created_at) WHERE task IS NOT NULL;
CREATE INDEX reservations_open ON reservations (expires_at) WHERE status = 'pending';
