create extension if not exists vector with schema public;

create table pipeline.collections (
  id bigint generated always as identity primary key,
  tenant text not null,
  name text not null,
  embedding_model text not null,
  dimension int not null check (dimension between 1 and 16000),
  description text not null default '',
  -- Kept by the transactions that change documents: they decide how the collection is searched.
  document_count bigint not null default 0,
  chunk_count bigint not null default 0,
  created_at timestamptz not null default now(),
  unique (tenant, name)
);

create table pipeline.documents (
  id uuid primary key default gen_random_uuid(),
  collection_id bigint not null references pipeline.collections on delete cascade,
  source text not null,
  title text not null,
  mime_type text not null,
  metadata jsonb not null default '{}',
  text text not null,
  content_sha256 bytea not null,
  recipe text not null,
  chunk_count int not null,
  updated_at timestamptz not null default now()
);

-- By the hash, since a source may be longer than an index entry.
create unique index documents_by_source on pipeline.documents (collection_id, md5(source));

create table pipeline.chunks (
  document_id uuid not null references pipeline.documents on delete cascade,
  position int not null,
  collection_id bigint not null,
  start_char int not null,
  end_char int not null,
  text text not null,
  embedding public.halfvec not null,
  primary key (document_id, position)
);

create index chunks_by_collection on pipeline.chunks (collection_id);

-- One graph for each length of vector that shipped models make; other lengths are searched exactly.
create index chunks_by_embedding_384 on pipeline.chunks
  using hnsw ((embedding::public.halfvec(384)) public.halfvec_cosine_ops)
  where public.vector_dims(embedding) = 384;
create index chunks_by_embedding_1536 on pipeline.chunks
  using hnsw ((embedding::public.halfvec(1536)) public.halfvec_cosine_ops)
  where public.vector_dims(embedding) = 1536;

create table pipeline.ingest_jobs (
  id uuid primary key default gen_random_uuid(),
  tenant text not null,
  collection text not null,
  state text not null default 'receiving'
    check (state in ('receiving', 'pending', 'running', 'succeeded', 'failed', 'cancelled')),
  total_documents int not null default 0,
  done_documents int not null default 0,
  unchanged_documents int not null default 0,
  stored_chunks bigint not null default 0,
  created_at timestamptz not null default now(),
  ended_at timestamptz
);

create index ingest_jobs_unended on pipeline.ingest_jobs (created_at) where ended_at is null;

create table pipeline.ingest_items (
  job_id uuid not null references pipeline.ingest_jobs on delete cascade,
  position int not null,
  source text not null,
  mime_type text not null,
  title text not null,
  metadata jsonb not null default '{}',
  content_sha256 bytea not null,
  -- Null once the item is done.
  content bytea,
  state text not null default 'pending' check (state in ('pending', 'stored', 'unchanged', 'failed')),
  failure text,
  primary key (job_id, position)
);
