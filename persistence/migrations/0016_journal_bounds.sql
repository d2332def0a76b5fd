-- From when to when the journal goes that there is: what comes in is held to it from now on, and a month is left to spare.

CREATE FUNCTION month_of(moment timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
  SELECT date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
$$;

CREATE FUNCTION month_after(moment timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
  SELECT (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'
$$;

-- Not proved here, so that nobody waits: the next file does, and keeps nobody from reading or writing.
CREATE TABLE journal_bounds AS
SELECT month_of(min(at)) AS since, month_after(month_after(greatest(max(at), now()))) AS until FROM journal;

DO $$
DECLARE
  bounds record;
BEGIN
  FOR bounds IN SELECT * FROM journal_bounds WHERE since IS NOT NULL LOOP
    EXECUTE format('ALTER TABLE journal ADD CONSTRAINT journal_bounds CHECK (at >= %L AND at < %L) NOT VALID',
      bounds.since, bounds.until);
  END LOOP;
END
$$;
