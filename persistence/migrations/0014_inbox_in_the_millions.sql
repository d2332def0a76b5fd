-- What is asked of the inbox and of the log of events stays quick when there are millions of rows.

CREATE INDEX webhook_inbox_duplicate ON webhook_inbox (id)
  WHERE deliveries > 1 AND outcome NOT IN ('rejected', 'progress');

-- What went back of a payment, by any of the names that it is known by.
CREATE INDEX webhook_inbox_of_payment ON webhook_inbox USING gin (string_to_array(named, ' '))
  WHERE outcome = 'reversed';
DROP INDEX webhook_inbox_reversed;

CREATE INDEX events_type ON events (type, number);
