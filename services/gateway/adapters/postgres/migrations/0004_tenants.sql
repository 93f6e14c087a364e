alter table gateway.tenants
  -- From then on its keys are refused; the row goes once all its data is gone.
  add column delete_time timestamptz;

alter table gateway.audit_log
  drop constraint audit_log_action_check,
  add constraint audit_log_action_check check (action in (
    'create_key', 'rotate_key', 'revoke_key', 'create_tenant', 'set_tenant_limits', 'delete_tenant'
  ));
