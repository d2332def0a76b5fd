-- The rate card: what the work of a model costs, in versions that are never changed.

CREATE TABLE rates (
  model text COLLATE "C" NOT NULL CHECK (model ~ '^[A-Za-z0-9._:@+/-]{1,64}$'),
  version integer NOT NULL CHECK (version >= 1),
  base numeric(22, 6) NOT NULL CHECK (base BETWEEN 0 AND 9007199254740991),
  price numeric(22, 6) NOT NULL CHECK (price BETWEEN 0 AND 9007199254740991),
  ttl_seconds integer CHECK (ttl_seconds BETWEEN 1 AND 86400),
  by text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- In the order in which they were put: the last one tells whether anything has changed.
  number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
  PRIMARY KEY (model, version)
);

CREATE FUNCTION rates_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the rate card is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER rates_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON rates
  FOR EACH STATEMENT EXECUTE FUNCTION rates_are_append_only();
