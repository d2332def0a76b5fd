-- What products need of credits: settings of accounts, how reservations are settled, what was given back.

-- overdraft_limit: how far below zero available may be. low_balance: whoever watches is told below it, 0: never.
ALTER TABLE accounts
  ADD COLUMN overdraft_limit bigint NOT NULL DEFAULT 0 CHECK (overdraft_limit BETWEEN 0 AND 9007199254740991),
  ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'frozen', 'closed')),
  ADD COLUMN low_balance bigint NOT NULL DEFAULT 0 CHECK (low_balance BETWEEN 0 AND 9007199254740991),
  ADD CHECK (available >= -overdraft_limit);

-- price: what the amount was computed from, as JSON. parts: the entries that captured a part and left the rest held,
-- as a JSON list of sequence, key and fingerprint; null when there is none.
ALTER TABLE reservations
  ADD COLUMN over_capture text NOT NULL DEFAULT 'reject' CHECK (over_capture IN ('reject', 'cap', 'charge')),
  ADD COLUMN on_expired text NOT NULL DEFAULT 'reject' CHECK (on_expired IN ('reject', 'charge')),
  ADD COLUMN price text,
  ADD COLUMN parts text;

-- How much of a transaction was given back so far; shard and seq are those of the transaction that spent it.
CREATE TABLE refunds (
  shard integer NOT NULL,
  seq bigint NOT NULL,
  refunded bigint NOT NULL CHECK (refunded BETWEEN 1 AND 9007199254740991),
  PRIMARY KEY (shard, seq)
);

CREATE INDEX journal_refunds ON journal (shard, seq) WHERE kind IN ('refunded', 'adjusted');

-- Keys that hold for ever are looked up here.
CREATE INDEX journal_operation_key ON journal (account, operation_key) WHERE operation_key IS NOT NULL;
