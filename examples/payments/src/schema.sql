-- Instances that start at the same time make the tables one after the other: the lock ends with the
-- transaction, which all of this is.
SELECT pg_advisory_xact_lock(hashtext('payments'));
SET LOCAL client_min_messages = warning; -- no notice of what is there

CREATE TABLE IF NOT EXISTS payments (
    id uuid PRIMARY KEY,
    client text NOT NULL,
    account text NOT NULL CHECK (account <> ''),
    amount bigint NOT NULL CHECK (amount > 0), -- in the currency's minor unit, such as cents
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'), -- ISO 4217
    made timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS payments_of_client ON payments (client, account, made);

CREATE TABLE IF NOT EXISTS outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key uuid NOT NULL, -- each delivery's idempotency key
    message jsonb NOT NULL,
    due timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (due);
