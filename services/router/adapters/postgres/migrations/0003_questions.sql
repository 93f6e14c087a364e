create extension if not exists vector with schema public;

-- Questions whose answers may be given to other wordings; the answers themselves are in Redis.
create table router.questions (
  tenant text not null,
  -- Hash of all that affects the answer but the question's words: model, route, settings, earlier messages.
  context text not null,
  -- Name of the answer in the cache.
  answer text not null,
  text text not null,
  embedding public.halfvec(384) not null,
  expire_time timestamptz not null,
  primary key (tenant, context, answer)
);

create index questions_expire_time on router.questions (expire_time);
