-- Nobody who asks for the months while one is exchanged is told of one without bounds. Given the table's oid,
-- pg_get_expr looks the table up again, and gives NULL when it was dropped meanwhile; bounds name no columns, so 0 is
-- enough.
CREATE OR REPLACE VIEW journal_months AS
SELECT relname::text AS name, bounds[1]::timestamptz AS since, bounds[2]::timestamptz AS until
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid,
  regexp_match(pg_get_expr(relpartbound, 0), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds
WHERE inhparent = 'journal'::regclass;
