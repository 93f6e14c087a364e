-- For all keys of a tenant together; null means the default of limits.yaml, 0 means none at all.
alter table gateway.tenants
  add column requests_per_minute bigint check (requests_per_minute >= 0),
  add column tokens_per_minute bigint check (tokens_per_minute >= 0),
  add column tokens_per_day bigint check (tokens_per_day >= 0),
  add column micro_usd_per_day bigint check (micro_usd_per_day >= 0),
  add column micro_usd_per_month bigint check (micro_usd_per_month >= 0),
  add column concurrent_calls bigint check (concurrent_calls >= 0);
