-- The ledger, its shards and the journal: what every balance is backed by.

CREATE TABLE ledger (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  id uuid NOT NULL,
  shards integer NOT NULL CHECK (shards BETWEEN 1 AND 4096),
  born boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- cursor: the last sequence in the journal; link: the nonce of its call; head: its hash; bytes: entries and notes
-- up to it, as Redis counts them.
CREATE TABLE shards (
  shard integer PRIMARY KEY CHECK (shard BETWEEN 0 AND 4095),
  cursor bigint NOT NULL DEFAULT 0 CHECK (cursor >= 0),
  bytes bigint NOT NULL DEFAULT 0 CHECK (bytes >= 0),
  link text NOT NULL DEFAULT 'genesis',
  head bytea NOT NULL CHECK (octet_length(head) = 32),
  incarnation bigint NOT NULL DEFAULT 0 CHECK (incarnation >= 0),
  fence text,
  fenced_at timestamptz,
  journaled_at timestamptz,
  CHECK ((fence IS NULL) = (fenced_at IS NULL))
);

CREATE TABLE journal (
  shard integer NOT NULL,
  seq bigint NOT NULL CHECK (seq >= 1),
  incarnation bigint NOT NULL,
  at timestamptz NOT NULL,
  kind text NOT NULL,
  account text NOT NULL,
  version bigint NOT NULL CHECK (version >= 1),
  amount bigint NOT NULL,
  available bigint NOT NULL,
  held bigint NOT NULL CHECK (held >= 0),
  reservation uuid,
  task text,
  model text,
  operation_key text,
  by text NOT NULL,
  entry text NOT NULL,
  hash bytea NOT NULL CHECK (octet_length(hash) = 32),
  PRIMARY KEY (shard, seq),
  UNIQUE (account, version)
);

CREATE INDEX journal_at ON journal (at, shard, seq);
CREATE INDEX journal_reservation ON journal (reservation) WHERE reservation IS NOT NULL;

-- Personal text, beside the entry so that it can be erased; the entry carries the hash of `text`.
CREATE TABLE notes (
  shard integer NOT NULL,
  seq bigint NOT NULL,
  text text NOT NULL,
  PRIMARY KEY (shard, seq)
);

CREATE FUNCTION journal_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the journal is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER journal_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
  FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only();
