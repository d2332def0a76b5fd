-- What the journal has lies within its bounds: it is read through once, while everybody else goes on.

DO $$
BEGIN
  IF EXISTS (SELECT FROM journal_bounds WHERE since IS NOT NULL) THEN
    ALTER TABLE journal VALIDATE CONSTRAINT journal_bounds;
  END IF;
END
$$;
