alter table router.ledger
  -- The tier at which the provider served, in its own word; it decides the price. Empty where the provider did not say,
  -- null where a router wrote that does not know tiers yet.
  add column service_tier text;
