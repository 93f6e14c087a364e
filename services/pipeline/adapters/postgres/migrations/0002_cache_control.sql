-- What the caller said of caches, as HTTP `cache-control`: a job goes on long after its request.
alter table pipeline.ingest_jobs add column cache_control text not null default '';
