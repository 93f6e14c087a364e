alter table gateway.api_keys
  -- The secret before the last rotation, which is accepted until its time.
  add column former_salt bytea,
  add column former_digest bytea,
  add column former_expire_time timestamptz,
  -- As input_tokens_per_request: null means the default of limits.yaml, 0 means none at all.
  add column requests_per_minute bigint check (requests_per_minute >= 0),
  add column tokens_per_minute bigint check (tokens_per_minute >= 0),
  add column tokens_per_day bigint check (tokens_per_day >= 0),
  add column micro_usd_per_day bigint check (micro_usd_per_day >= 0),
  add column micro_usd_per_month bigint check (micro_usd_per_month >= 0),
  add column concurrent_calls bigint check (concurrent_calls >= 0),
  add constraint api_keys_former check (
    (former_salt is null) = (former_digest is null) and (former_salt is null) = (former_expire_time is null)
  );

drop index gateway.api_keys_tenant;
create index api_keys_newest on gateway.api_keys (tenant, create_time desc, id desc);

-- Who changed what, and when. It refers to nothing, so that it outlives what it tells of.
create table gateway.audit_log (
  number bigint generated always as identity primary key,
  time timestamptz not null default now(),
  tenant text not null,
  -- The key that did it.
  key_id text not null,
  action text not null check (action in ('create_key', 'rotate_key', 'revoke_key')),
  -- The key that it was done to.
  subject text not null,
  details jsonb not null default '{}'
);

create index audit_log_tenant on gateway.audit_log (tenant, number desc);
