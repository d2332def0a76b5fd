-- What people page through and search, in the order in which they see it; and which version of an account a moment is.

-- Reservations newest first: their ids begin with the time at which they were made. Few are pending or have
-- expired among the many that are kept.
CREATE INDEX reservations_open ON reservations (id) WHERE status = 'pending';
CREATE INDEX reservations_expired ON reservations (id) WHERE cancel_cause = 'expired';
CREATE INDEX reservations_model ON reservations (model, id) WHERE model IS NOT NULL;

-- Byte by byte, whatever the database's own order is: ids are ASCII.
CREATE INDEX accounts_id ON accounts (account COLLATE "C");

-- The last version of an account before a moment, 0 when it has none by then, NULL when it is not known. Versions have
-- no gaps and time never goes back between two of them, so that some twenty steps find it among a million.
CREATE FUNCTION version_before(of_account text, moment timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
  WITH RECURSIVE search (low, high) AS (
    SELECT 0::bigint, version FROM accounts WHERE account = of_account
    UNION ALL
    SELECT CASE WHEN j.at < moment THEN j.version ELSE low END, CASE WHEN j.at < moment THEN high ELSE j.version - 1 END
    FROM search JOIN journal j ON j.account = of_account AND j.version = (low + high + 1) / 2
    WHERE low < high
  )
  SELECT low FROM search WHERE low = high
$$;
