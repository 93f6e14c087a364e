create table gateway.tenants (
  id text primary key check (id ~ '^[a-z0-9][a-z0-9._-]{0,127}$'),
  name text not null default '',
  create_time timestamptz not null default now()
);

-- A key without its text: `digest` is a BLAKE2b of the text under the key's own salt.
create table gateway.api_keys (
  id text primary key check (id ~ '^qk_[0-9a-f]{12}$'),
  tenant text not null references gateway.tenants (id) on delete cascade,
  name text not null default '',
  scopes text[] not null check (cardinality(scopes) > 0),
  salt bytea not null,
  digest bytea not null,
  -- Null means the default of limits.yaml, 0 means none at all.
  input_tokens_per_request bigint check (input_tokens_per_request >= 0),
  create_time timestamptz not null default now(),
  expire_time timestamptz,
  revoke_time timestamptz
);

create index api_keys_tenant on gateway.api_keys (tenant);
