"""A year of a ledger, written straight into the tables as the worker, the doors and people would have left
it: a journal of ten million entries, and what else pages read.

Every job is a reserve and its ending. One account is hot: it has every 25th job, and so a timeline of 400,000
entries; the others share the rest alike. Of the last day there is as much as of a month before, because what
is open is of the last day. Left out is what no page looks at: keys of operations, true hashes, and sequences
without gaps.
"""

import asyncio
from collections.abc import Sequence

import asyncpg

ACCOUNTS = 100_000
JOBS = 5_000_000
ENTRIES = 2 * JOBS + ACCOUNTS
HOT = "customer-00000000"
HOT_EVERY = 25
CREDITS = 1_000_000_000

LATELY = 600_000
"""So many of the jobs are of the last day. Reservations of older ones were dropped by clean-up."""

DELIVERIES = 1_000_000
WRITERS = 2

_CUSTOMERS = f"""
CREATE UNLOGGED TABLE year_customers AS
SELECT substr(account, 10)::integer AS number, account, shard FROM accounts;
ALTER TABLE year_customers ADD PRIMARY KEY (number);
ANALYZE year_customers;

CREATE FUNCTION year_jobs(first integer, last integer)
RETURNS TABLE (job integer, account text, shard integer, before integer, at_ms bigint, reservation uuid,
  model text, ending text) LANGUAGE sql STABLE AS $$
  SELECT job, account, shard, before, at_ms,
    (lpad(to_hex(at_ms), 12, '0') || '7' || lpad(to_hex(shard), 3, '0') || '8'
      || substr(md5(job::text), 1, 15))::uuid,
    'model-' || 1 + job / 7 % 20,
    CASE WHEN job < {JOBS - LATELY} THEN 'confirmed' WHEN job % 6 = 0 THEN 'bound'
      WHEN job % 60 = 1 THEN 'expired' WHEN job % 20 = 3 THEN 'cancelled' ELSE 'confirmed' END
  FROM (
    SELECT job,
      CASE WHEN job % {HOT_EVERY} = 0 THEN 0
        ELSE 1 + (job - job / {HOT_EVERY} - 1) % {ACCOUNTS - 1} END AS number,
      CASE WHEN job % {HOT_EVERY} = 0 THEN job / {HOT_EVERY}
        ELSE (job - job / {HOT_EVERY} - 1) / {ACCOUNTS - 1} END AS before,
      (extract(epoch FROM now()) * 1000)::bigint - CASE
        WHEN job < {JOBS - LATELY} THEN 86400000 + ({JOBS - LATELY} - job) * 7150::bigint
        ELSE ({JOBS} - job) * 144::bigint END AS at_ms
    FROM generate_series(first, last) AS job
  ) AS jobs JOIN year_customers USING (number)
$$;
"""

_BARE = """
DO $$
DECLARE
  month text;
BEGIN
  PERFORM make_journal_months(ARRAY(SELECT now() - n * interval '1 week' FROM generate_series(0, 60) AS n));
  EXECUTE 'ALTER TABLE journal DISABLE TRIGGER USER';
  FOR month IN SELECT name FROM journal_months LOOP
    EXECUTE format('ALTER TABLE %I DISABLE TRIGGER USER', month);
    EXECUTE format('ALTER TABLE %I SET UNLOGGED', month);
  END LOOP;
END
$$;
TRUNCATE journal, accounts, lots, reservations;
"""

# A job ends before the next one begins, so that no shard's time goes back.
_JOURNAL = f"""
INSERT INTO journal (shard, seq, incarnation, at, kind, account, version, amount, available, held,
  reservation, task, model, by, entry, hash)
SELECT shard, {ACCOUNTS} + 2 * job + half, 1, to_timestamp(at / 1000.0), kind, account, version, 10,
  available, held, reservation, CASE half WHEN 1 THEN 'task-' || job END, model, 'key:shop',
  '{{"v":1,"kind":"' || kind || '","at_ms":' || at || ',"account":"' || account || '","version":' || version
    || ',"amount":10,"available":' || available || ',"held":' || held || ',"legs":[["default",0,'
    || CASE half WHEN 1 THEN '-10,10' ELSE '0,-10' END || ']],"incarnation":1,"nonce":"n","by":"key:shop",'
    || '"reservation":"' || reservation || '","model":"' || model || '"' || CASE
      WHEN half = 1 THEN ',"task":"task-' || job || '","provider":"fal","deadline_ms":' || at + 86400000
      WHEN kind = 'confirmed' THEN ',"captured":10,"charged":0,"released":0' ELSE '' END || '}}',
  decode(repeat('00', 32), 'hex')
FROM (
  SELECT job, half, account, shard, reservation, model, 2 * before + 1 + half AS version,
    at_ms + CASE half WHEN 1 THEN 0 ELSE 70 END AS at,
    CASE half WHEN 1 THEN 'reserved' ELSE ending END AS kind,
    {CREDITS} - 10 * (before + 1) AS available, CASE half WHEN 1 THEN 10 ELSE 0 END AS held
  FROM year_jobs($1, $2), (VALUES (1), (2)) AS halves (half)
) AS entries
"""

_GRANTS = f"""
INSERT INTO journal (shard, seq, incarnation, at, kind, account, version, amount, available, held, by, entry,
  hash)
SELECT shard, number + 1, 1, to_timestamp(at_ms / 1000.0), 'granted', account, 1, {CREDITS}, {CREDITS}, 0,
  'key:shop',
  '{{"v":1,"kind":"granted","at_ms":' || at_ms || ',"account":"' || account || '","version":1,'
    || '"amount":{CREDITS},"available":{CREDITS},"held":0,"legs":[["default",0,{CREDITS},0]],'
    || '"incarnation":1,"nonce":"n","by":"key:shop","bucket":"default"}}', decode(repeat('00', 32), 'hex')
FROM year_customers, (SELECT (extract(epoch FROM now()) * 1000)::bigint - 32000000000 AS at_ms) AS begin
"""

_RESERVATIONS = f"""
INSERT INTO reservations (id, shard, account, status, reserved, captured, released, held, expires_at,
  created_at, settled_at, cancel_cause, task, provider, model, reserved_seq, ended_seq)
SELECT reservation, shard, account,
  CASE ending WHEN 'bound' THEN 'pending' WHEN 'expired' THEN 'cancelled' ELSE ending END,
  10, CASE ending WHEN 'confirmed' THEN 10 ELSE 0 END,
  CASE WHEN ending IN ('expired', 'cancelled') THEN 10 ELSE 0 END,
  CASE ending WHEN 'bound' THEN 10 ELSE 0 END,
  at + CASE WHEN job % 120 = 0 THEN interval '10 minutes' ELSE interval '24 hours' END, at,
  CASE WHEN ending <> 'bound' THEN at + interval '70 ms' END,
  CASE ending WHEN 'expired' THEN 'expired' WHEN 'cancelled' THEN 'failed' END,
  'task-' || job, 'fal', model, {ACCOUNTS} + 2 * job + 1,
  CASE WHEN ending <> 'bound' THEN {ACCOUNTS} + 2 * job + 2 END
FROM (
  SELECT *, to_timestamp(at_ms / 1000.0) AS at FROM year_jobs({JOBS - LATELY}, {JOBS - 1})
) AS jobs
"""

# The hot account has many buckets, too.
_BALANCES = f"""
INSERT INTO accounts (account, shard, version, available, held, opened_at, last_at)
SELECT account, shard, jobs.version, {CREDITS} - 5 * (jobs.version - 1), 10 * holds,
  now() - interval '370 days', now()
FROM year_customers JOIN LATERAL (
  SELECT 1 + 2 * CASE number WHEN 0 THEN {JOBS // HOT_EVERY}
    ELSE ({JOBS - JOBS // HOT_EVERY} - number) / {ACCOUNTS - 1} + 1 END AS version
) AS jobs ON true LEFT JOIN LATERAL (
  SELECT count(*) AS holds FROM reservations r
  WHERE r.shard = year_customers.shard AND r.account = year_customers.account AND status = 'pending'
) AS open ON true;

INSERT INTO lots (account, bucket, expires_at_ms, priority, available, held, since)
SELECT account, 'default', 0, 0, available - CASE WHEN number % 10 = 0 THEN 300 ELSE 0 END, held, 1
FROM accounts JOIN year_customers USING (account);

INSERT INTO lots (account, bucket, expires_at_ms, priority, available, held, since)
SELECT account, 'plan', (extract(epoch FROM now()) * 1000)::bigint + 86400000 * day::bigint, 1,
  CASE number WHEN 0 THEN 1 ELSE 100 END, 0, 1
FROM year_customers, generate_series(1, 300) AS day WHERE number % 10 = 0 AND (number = 0 OR day <= 3);
"""

_CURSORS = """
UPDATE shards SET cursor = ends.cursor, link = 'n', bytes = 300 * ends.cursor, journaled_at = now()
FROM (SELECT shard, max(seq) AS cursor FROM journal GROUP BY shard) AS ends WHERE ends.shard = shards.shard;
"""

# Few are open, most of what was rejected is one row for each hour.
_INBOX = f"""
INSERT INTO webhook_inbox (provider, path, named, outcome, word, task, payload, status, why, reservation,
  account, credits, deliveries, received_at, last_at, tried_at, settled_at)
SELECT (ARRAY['fal', 'replicate', 'bfl', 'luma'])[1 + job % 4], '', 'task-' || job,
  CASE WHEN status = 'rejected' THEN 'rejected' WHEN job % 9 = 0 THEN 'failed' ELSE 'succeeded' END,
  'COMPLETED', 'task-' || job, CASE WHEN job > {JOBS - DELIVERIES // 2} THEN payload END, status,
  CASE status WHEN 'unknown' THEN 'No reservation has this task.' END, reservation::text, account,
  10, 1 + (job % 50 = 0)::integer, at, at, at, CASE WHEN status NOT IN ('received', 'waiting') THEN at END
FROM (
  SELECT job, reservation, account, to_timestamp(at_ms / 1000.0) + interval '70 ms' AS at,
    '{{"status": "COMPLETED", "output": "' || repeat(md5(job::text), 12) || '"}}' AS payload,
    CASE WHEN job > {JOBS - 1000} AND job % 5 = 0 THEN 'received' WHEN job % 500 = 0 THEN 'waiting'
      WHEN job % 400 = 1 THEN 'unknown' WHEN job % 900 = 2 THEN 'conflict' WHEN job % 700 = 3 THEN 'late'
      WHEN job % 300 = 4 THEN 'refused' WHEN job % 10000 = 7 THEN 'rejected' ELSE 'verified' END AS status
  FROM year_jobs({JOBS - DELIVERIES}, {JOBS - 1})
) AS jobs ORDER BY job;
"""

_BESIDE = f"""
INSERT INTO alerts (id, rule, subject, level, state, since, resolved_at, value, threshold, message)
SELECT gen_random_uuid(), 'model_failure_rate', 'model-' || n, 'warning',
  CASE WHEN n < 20 THEN 'firing' ELSE 'resolved' END, now() - n * interval '6 minutes',
  CASE WHEN n >= 20 THEN now() - (n - 1) * interval '6 minutes' END, 0.3, 0.2,
  'Of the reservations of this model 30% failed or ran out of time within the last hour.'
FROM generate_series(1, 20000) AS n;

INSERT INTO reconciliations (started_at, finished_at, status, by, accounts, drift)
SELECT now() - n * interval '1 hour', now() - n * interval '1 hour' + interval '1 minute',
  CASE WHEN n % 7 = 3 THEN 'drift' ELSE 'equal' END, 'job', {ACCOUNTS}, CASE WHEN n % 7 = 3 THEN (
    SELECT jsonb_agg(jsonb_build_object('accountId', 'customer-' || lpad(m::text, 8, '0'),
      'field', 'available', 'redis', '999', 'journal', '1000')) FROM generate_series(1, 1000) AS m
  ) ELSE '[]' END
FROM generate_series(1, 9000) AS n;

INSERT INTO operator_actions (key, at, act, by, reason, account, about, outcome, told, ended_at)
SELECT 'form-' || n, now() - (200000 - n) * interval '2 minutes', 'adjust', 'key:ops', 'Ticket ' || n,
  CASE n % 3 WHEN 0 THEN '{HOT}' WHEN 1 THEN 'customer-' || lpad((n % {ACCOUNTS})::text, 8, '0') END,
  CASE WHEN n % 3 = 2 THEN CASE WHEN n < 100 THEN 'keys' WHEN n < 1000 THEN 'reconciliation'
    ELSE 'webhook ' || n END END, 'done', '1-1-' || n, now()
FROM generate_series(1, 200000) AS n;

INSERT INTO api_keys (name, prefix, hash, scopes, created_at, revoked_at)
SELECT 'shop-' || n, 'lk_' || n, sha256(n::text::bytea), '{{spend,read}}',
  now() - (20000 - n) * interval '20 minutes', CASE WHEN n % 10 > 0 THEN now() END
FROM generate_series(1, 20000) AS n;

INSERT INTO cleanups (started_at, finished_at, by, whole, expired)
SELECT now() - n * interval '10 minutes', now() - n * interval '10 minutes', 'job', false, 10
FROM generate_series(1, 52000) AS n;

INSERT INTO mishaps (what, minute, number, last)
SELECT what, date_trunc('minute', now()) - n * interval '1 minute', 3, 'task-' || n
FROM generate_series(0, 1440) AS n, (VALUES ('reservation_not_found'), ('confirm_conflict')) AS of (what);

INSERT INTO events (id, type, account, at, body)
SELECT gen_random_uuid(), 'balance.low', 'customer-' || lpad((n % {ACCOUNTS})::text, 8, '0'),
  now() - n * interval '1 minute', '{{}}'
FROM generate_series(1, 200000) AS n;
"""

_GUARDED = """
DO $$
DECLARE
  month text;
BEGIN
  EXECUTE 'ALTER TABLE journal ENABLE TRIGGER USER';
  FOR month IN SELECT name FROM journal_months LOOP
    EXECUTE format('ALTER TABLE %I ENABLE TRIGGER USER', month);
  END LOOP;
END
$$
"""

# The keys of each month, and the indexes of all, which are made for each month with the journal's.
_INDEXES = """
SELECT CASE WHEN con.oid IS NULL THEN regexp_replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
    ELSE format('ALTER TABLE %s ADD CONSTRAINT %I %s', i.indrelid::regclass, conname,
      pg_get_constraintdef(con.oid))
  END AS made,
  CASE WHEN con.oid IS NULL THEN format('DROP INDEX %I', c.relname)
    ELSE format('ALTER TABLE %s DROP CONSTRAINT %I', i.indrelid::regclass, conname)
  END AS dropped
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
LEFT JOIN pg_constraint con ON con.conindid = i.indexrelid
WHERE i.indrelid = 'journal'::regclass OR con.oid IS NOT NULL
  AND i.indrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'journal'::regclass)
ORDER BY c.relname
"""


async def live(database_url: str) -> None:
    """Put the year in the place of what `filled` has made, whose accounts go on."""
    connection = await _connected(database_url)
    try:
        await connection.execute(_CUSTOMERS)
        await connection.execute(_BARE)
        indexes = await connection.fetch(_INDEXES)
        for index in indexes:
            await connection.execute(index["dropped"])
        await _at_once(database_url, [(_GRANTS, ())], *([_journal(part)] for part in range(WRITERS)))
        await connection.execute("VACUUM (ANALYZE) journal")
        await _at_once(
            database_url,
            [*((index["made"], ()) for index in indexes), (_CURSORS, ())],
            [(_RESERVATIONS, ()), (_BALANCES, ()), (_INBOX, ()), (_BESIDE, ())],
        )
        await connection.execute(_GUARDED)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def _journal(part: int) -> tuple[str, Sequence[int]]:
    size = JOBS // WRITERS
    return _JOURNAL, (part * size, (part + 1) * size - 1)


Statement = tuple[str, Sequence[int]]


async def _at_once(database_url: str, *works: Sequence[Statement]) -> None:
    """Each on a connection of its own."""
    await asyncio.gather(*(_carried_out(database_url, each) for each in works))


async def _carried_out(database_url: str, statements: Sequence[Statement]) -> None:
    connection = await _connected(database_url)
    try:
        for statement, values in statements:
            await connection.execute(statement, *values)
    finally:
        await connection.close()


async def _connected(database_url: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        database_url,
        ssl=False,
        server_settings={
            "synchronous_commit": "off",
            "work_mem": "128MB",
            "maintenance_work_mem": "256MB",
            "jit": "off",
        },
    )
