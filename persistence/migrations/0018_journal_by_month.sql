-- The journal by month: a table for each month of UTC, made ahead, so that what is old can be put away whole.

-- A month has its own keys: (shard, seq) and (account, version). That a row of one month stands in no other one is kept
-- by whoever writes: the cursor of the shard and the version of the account move on in the same transaction.
ALTER TABLE journal RENAME TO journal_before;

CREATE TABLE journal (LIKE journal_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)
  PARTITION BY RANGE (at);

ALTER TABLE journal DROP CONSTRAINT IF EXISTS journal_bounds;

CREATE TRIGGER journal_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
  FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only();

-- The tables of the journal and what each is for: since <= at < until.
CREATE VIEW journal_months AS
SELECT relname::text AS name, bounds[1]::timestamptz AS since, bounds[2]::timestamptz AS until
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid,
  regexp_match(pg_get_expr(relpartbound, pg_class.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds
WHERE inhparent = 'journal'::regclass;

-- Who may read or write the journal still may, and knows its months.
DO $$
DECLARE
  allowed record;
BEGIN
  FOR allowed IN
    SELECT privilege_type, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role
    FROM pg_class, aclexplode(relacl) WHERE oid = 'journal_before'::regclass AND grantee <> relowner
  LOOP
    EXECUTE format('GRANT %s ON journal TO %s', allowed.privilege_type, allowed.role);
    EXECUTE format('GRANT SELECT ON journal_months TO %s', allowed.role);
  END LOOP;
END
$$;

-- A table for the rows of a time, for itself: with the keys and indexes of the journal, and not yet in it.
CREATE FUNCTION make_journal_table(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format(
    'CREATE TABLE %I (LIKE journal INCLUDING ALL, PRIMARY KEY (shard, seq), UNIQUE (account, version))', name);
  -- A statement may name this table itself, and then no trigger of the journal's sees it.
  EXECUTE format(
    'CREATE TRIGGER journal_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
     FOR EACH STATEMENT EXECUTE FUNCTION journal_is_append_only()', name);
  -- Whoever makes it: who owns the journal owns all of its months.
  EXECUTE format('ALTER TABLE %I OWNER TO %I', name,
    (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'journal'::regclass));
END
$$;

-- Make the months of these moments that are not there; returns their names. Nobody who reads or writes the journal has to
-- wait: a table that is attached takes no more than SHARE UPDATE EXCLUSIVE. Two who do so at once take turns.
CREATE FUNCTION make_journal_months(moments timestamptz[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  month timestamptz;
  name text;
BEGIN
  IF NOT EXISTS (
    SELECT FROM unnest(moments) AS moment
    WHERE NOT EXISTS (SELECT FROM journal_months WHERE moment >= since AND moment < until)
  ) THEN
    RETURN;
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('journal_months', 0));
  FOR month IN
    SELECT DISTINCT month_of(moment) FROM unnest(moments) AS moment ORDER BY 1
  LOOP
    CONTINUE WHEN EXISTS (SELECT FROM journal_months AS known WHERE month >= since AND month < until);
    name := 'journal_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
    PERFORM make_journal_table(name);
    EXECUTE format('ALTER TABLE journal ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
      name, month, month_after(month));
    RETURN NEXT name;
  END LOOP;
END
$$;

-- What there is already stays in the table that it is in, which is named by the months that it is for. Nothing is copied,
-- indexed or read: its bounds were proved before (but for one that was empty then, and has little now).
DO $$
DECLARE
  first timestamptz;
  after timestamptz;
  name text;
  index record;
BEGIN
  SELECT since, until INTO first, after FROM journal_bounds;
  IF first IS NULL THEN
    SELECT month_of(min(at)), month_after(max(at)) INTO first, after FROM journal_before;
  END IF;
  IF first IS NULL THEN
    DROP TABLE journal_before;
    RETURN;
  END IF;
  name := format('journal_%s_to_%s', to_char(first AT TIME ZONE 'UTC', 'YYYY_MM'),
    to_char((after - interval '1 day') AT TIME ZONE 'UTC', 'YYYY_MM'));
  FOR index IN
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = 'journal_before'::regclass
  LOOP
    EXECUTE format('ALTER INDEX %I RENAME TO %I', index.relname, regexp_replace(index.relname, '^journal', name));
  END LOOP;
  EXECUTE format('ALTER TABLE journal_before RENAME TO %I', name);
  EXECUTE format('ALTER TABLE journal ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, first, after);
  EXECUTE format('ALTER TABLE %I DROP CONSTRAINT IF EXISTS journal_bounds', name);
END
$$;

DROP TABLE journal_bounds;

-- The indexes of every month. That table's are those that it has.
CREATE INDEX journal_at ON journal (at, shard, seq);
CREATE INDEX journal_reservation ON journal (reservation) WHERE reservation IS NOT NULL;
CREATE INDEX journal_thresholds ON journal (account, version)
  WHERE kind IN ('configured', 'adjusted') AND strpos(entry, '"low_balance"') > 0;
CREATE INDEX journal_task ON journal (task) WHERE task IS NOT NULL AND kind IN ('reserved', 'bound', 'adjusted');
CREATE INDEX journal_refunds ON journal (shard, seq) WHERE kind IN ('refunded', 'adjusted');
CREATE INDEX journal_operation_key ON journal (account, operation_key) WHERE operation_key IS NOT NULL;

-- This month and so many after it.
CREATE FUNCTION make_journal_months_ahead(ahead integer) RETURNS SETOF text LANGUAGE sql AS $$
  SELECT make_journal_months(ARRAY(
    SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month') AT TIME ZONE 'UTC'
    FROM generate_series(0, ahead) AS n
  ))
$$;

SELECT make_journal_months_ahead(3);
