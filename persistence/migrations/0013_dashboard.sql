-- People who operate the ledger through pages: who is signed in, and what they did by hand.

-- hash: SHA-256 of what the browser's cookie holds.
CREATE TABLE operator_sessions (
  hash bytea PRIMARY KEY CHECK (octet_length(hash) = 32),
  key uuid NOT NULL REFERENCES api_keys ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);

CREATE INDEX operator_sessions_expiry ON operator_sessions (expires_at);

-- key: of the form, so that the same form sent twice is one action. outcome 'asked': begun, and not known how it ended.
-- reason: personal text, erasable like that of the journal. told: the transaction, or why it was refused.
CREATE TABLE operator_actions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key text NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 255),
  at timestamptz NOT NULL DEFAULT now(),
  act text NOT NULL,
  by text NOT NULL,
  reason text CHECK (length(reason) BETWEEN 1 AND 500),
  account text,
  reservation uuid,
  about text,
  detail text NOT NULL DEFAULT '',
  outcome text NOT NULL DEFAULT 'asked' CHECK (outcome IN ('asked', 'done', 'refused')),
  told text,
  ended_at timestamptz,
  CHECK ((outcome = 'asked') = (ended_at IS NULL))
);

CREATE INDEX operator_actions_account ON operator_actions (account, id) WHERE account IS NOT NULL;
CREATE INDEX operator_actions_reservation ON operator_actions (reservation, id) WHERE reservation IS NOT NULL;
