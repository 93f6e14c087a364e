-- What is too old is found by its time alone, whosever it is.
create index ledger_time on router.ledger (time);
create index outcomes_time on router.outcomes (time);
