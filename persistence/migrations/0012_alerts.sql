-- What goes wrong and is told: alerts, who is to be told of them, and what the processes have counted.

-- subject: the account, model or delivery that it is about, '' where it is about the whole. value and threshold: as of
-- the crossing, or of the worse one after it; NULL where no number decides.
CREATE TABLE alerts (
  id uuid PRIMARY KEY,
  rule text NOT NULL,
  subject text NOT NULL DEFAULT '',
  level text NOT NULL CHECK (level IN ('warning', 'critical')),
  state text NOT NULL CHECK (state IN ('firing', 'resolved')),
  since timestamptz NOT NULL,
  resolved_at timestamptz,
  value double precision,
  threshold double precision,
  message text NOT NULL,
  CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);

CREATE UNIQUE INDEX alerts_firing ON alerts (rule, subject) WHERE state = 'firing';
CREATE INDEX alerts_since ON alerts (state, since);

-- What is to be told of an alert. told: the channels that have taken it, by the beginning of the SHA-256 of their URLs.
CREATE TABLE alert_notices (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  alert uuid NOT NULL REFERENCES alerts ON DELETE CASCADE,
  title text NOT NULL,
  body text NOT NULL,
  told text[] NOT NULL DEFAULT '{}',
  attempts integer NOT NULL DEFAULT 0,
  due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  given_up boolean NOT NULL DEFAULT false
);

CREATE INDEX alert_notices_alert ON alert_notices (alert);
CREATE INDEX alert_notices_due ON alert_notices (due_at) WHERE NOT given_up;

-- Who judges, until when, and since when it has been judged without a gap; when the heartbeat was sent last.
CREATE TABLE alert_judge (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  holder text NOT NULL,
  is_worker boolean NOT NULL,
  since timestamptz NOT NULL,
  until timestamptz NOT NULL,
  beat_at timestamptz
);

-- What no entry of the journal tells: counted in the processes, and written minute by minute. last: about what.
CREATE TABLE mishaps (
  what text NOT NULL,
  minute timestamptz NOT NULL,
  number bigint NOT NULL CHECK (number >= 1),
  last text NOT NULL,
  PRIMARY KEY (what, minute)
);

-- Reservations that ran out of time, by when, and accounts that nobody should ever find: both few.
CREATE INDEX reservations_ran_out ON reservations (settled_at) WHERE cancel_cause = 'expired';
CREATE INDEX accounts_below_floor ON accounts (account) WHERE available < -overdraft_limit;
