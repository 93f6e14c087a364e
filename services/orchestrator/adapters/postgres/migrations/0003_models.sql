-- The only models that the run's key may use; null for any.
alter table runs add column models text[];
