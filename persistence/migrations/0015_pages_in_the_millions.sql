-- Pages stay quick when there is much to look at. None of these is written when credits move.

-- What was done by hand to anything else than an account or a reservation.
CREATE INDEX operator_actions_about ON operator_actions (about, id) WHERE about IS NOT NULL;

-- What one provider told, newest first, however seldom it is heard of.
CREATE INDEX webhook_inbox_provider ON webhook_inbox (provider, id);

-- The comparison that runs, of which there is one at most.
CREATE INDEX reconciliations_running ON reconciliations (started_at) WHERE finished_at IS NULL;
