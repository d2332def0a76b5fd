-- Clean-up: whether it runs by itself, what each run did, and where old reservations are found once they have left the table.

-- interval_seconds: as an operator has set it, NULL: the setting. kept_from: reservations that were settled before it may
-- have been dropped, and are in the journal alone; all others must be there. It never goes back.
CREATE TABLE cleanup (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  enabled boolean NOT NULL DEFAULT true,
  interval_seconds integer CHECK (interval_seconds BETWEEN 5 AND 604800),
  changed_by text,
  changed_at timestamptz,
  kept_from timestamptz NOT NULL DEFAULT '-infinity'
);

INSERT INTO cleanup DEFAULT VALUES;

-- whole: it also dropped what is old. error: why it failed; it has an end then, too.
CREATE TABLE cleanups (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz,
  by text NOT NULL,
  whole boolean NOT NULL,
  expired bigint NOT NULL DEFAULT 0 CHECK (expired >= 0),
  old bigint NOT NULL DEFAULT 0 CHECK (old >= 0),
  error text
);

CREATE INDEX cleanups_started ON cleanups (started_at);

-- What is old. A moment of settling only rises, so that new ones come at the end of the index.
CREATE INDEX reservations_settled ON reservations (settled_at) WHERE settled_at IS NOT NULL;

-- Which reservations a task was ever bound to, for as long as there is a journal.
CREATE INDEX journal_task ON journal (task) WHERE task IS NOT NULL AND kind IN ('reserved', 'bound', 'adjusted');

-- Nobody looks for a task there any more.
DROP INDEX reservations_task;
