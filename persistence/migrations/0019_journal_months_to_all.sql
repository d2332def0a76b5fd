-- Whoever looks which months there are while one is exchanged waits for it, and then is told when it is for: bounds
-- have no columns, and a name that is being dropped is not needed to show them.
CREATE OR REPLACE VIEW journal_months AS
SELECT relname::text AS name, bounds[1]::timestamptz AS since, bounds[2]::timestamptz AS until
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid,
  regexp_match(pg_get_expr(relpartbound, 0), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds
WHERE inhparent = 'journal'::regclass;
