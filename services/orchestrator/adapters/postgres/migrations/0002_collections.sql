-- What a run reads; null for runs from before, which only keys see that are held to no collection.
alter table runs add column collection text;
