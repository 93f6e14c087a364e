-- One row for every call to a model, failed ones included. The gateway reads it, too: for GetUsage.
create table router.ledger (
  -- Of the router process and a counter: a batch that is written twice counts once.
  call_id text primary key,
  time timestamptz not null,
  tenant text not null,
  key_id text not null,
  -- `chat` or `embeddings`.
  operation text not null,
  -- Empty where the caller named a model.
  route text not null,
  model text not null,
  provider text not null,
  -- Empty for live calls.
  run_id text not null,
  -- 32 hex digits.
  trace_id text not null,
  -- What the answer cache said before the call; empty when it was not asked.
  cache text not null,
  -- `OK`, or the reason of the failure; `CANCELLED` when the caller went away.
  status text not null,
  -- True for a call that broke off before the provider told its counts.
  estimated boolean not null,
  duration_us bigint not null,
  input_tokens bigint not null,
  output_tokens bigint not null,
  cached_input_tokens bigint not null,
  cache_write_tokens bigint not null,
  reasoning_tokens bigint not null,
  cost_micro_usd bigint not null
);

create index ledger_tenant_time on router.ledger (tenant, time);
