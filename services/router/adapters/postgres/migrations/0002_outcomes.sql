alter table router.ledger
  -- What the same tokens would have cost with the model that always-strong routing would have called; 0 for calls that
  -- no route chose, and for those that gave no answer.
  add column baseline_micro_usd bigint not null default 0;

create index ledger_trace on router.ledger (trace_id);

-- One row for every live choice between a route's cheaper and strong models.
create table router.decisions (
  decision_id text primary key,
  time timestamptz not null,
  tenant text not null,
  trace_id text not null,
  route text not null,
  -- Of the model that answered.
  model text not null,
  uplift double precision not null,
  -- `cheaper` or `strong`; of the model that answered, and what the shadow policy would have chosen, if there is one.
  tier text not null,
  shadow text not null,
  cheaper_micro_usd bigint not null,
  strong_micro_usd bigint not null
);

create index decisions_time on router.decisions (time);
create index decisions_tenant_time on router.decisions (tenant, time);

-- How good answers were, by those who got them.
create table router.outcomes (
  tenant text not null,
  trace_id text not null,
  time timestamptz not null default now(),
  score double precision not null check (score >= 0 and score <= 1),
  comment text not null,
  primary key (tenant, trace_id)
);

-- What the tiers earn by uplift, learnt from outcomes; the newest counts.
create table router.calibrations (
  number bigint generated always as identity primary key,
  time timestamptz not null default now(),
  outcomes bigint not null,
  bins jsonb not null
);
