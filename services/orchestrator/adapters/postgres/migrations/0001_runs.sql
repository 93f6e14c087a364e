create table executors (
    id text primary key,
    seen_at timestamptz not null default now()
);

create table runs (
    id text primary key,
    tenant text not null,
    key_id text not null,
    idempotency_key text,
    state smallint not null,
    run bytea not null,                    -- quartet.common.v1.Run
    last_event_number bigint not null,
    executor text not null,
    cancel_requested boolean not null default false,
    deadline timestamptz not null,
    traceparent text not null default '',
    created_at timestamptz not null default now(),
    unique (tenant, idempotency_key)
);
create index runs_by_age on runs (tenant, created_at desc, id desc);
create index runs_under_way on runs (executor, tenant) where state in (1, 2, 3);

create table run_events (
    run_id text not null references runs (id) on delete cascade,
    n bigint not null check (n > 0),
    event bytea not null,                  -- quartet.common.v1.RunEvent
    completion bytea not null,             -- quartet.common.v1.Completion behind it, empty for none
    primary key (run_id, n)
);
