"""What every prompt of a run bears beside its words."""

from quartet.common.v1 import generation_pb2
from quartet.router.v1 import router_pb2
from services.orchestrator.domain.progress import Progress


def address(prompt: router_pb2.Prompt, run_id: str, name: str, progress: Progress) -> router_pb2.Prompt:
    """The prompt with the run, the key `RUN/NAME`, what is left of the budget, and the word on caches."""
    prompt.run_id = run_id
    prompt.idempotency_key = f"{run_id}/{name}"
    prompt.budget.CopyFrom(remaining_budget(progress))
    prompt.cache_control = progress.task.cache_control
    return prompt


def remaining_budget(progress: Progress) -> generation_pb2.Budget:
    """What a call may still use of the task's budget."""
    budget, usage = progress.task.budget, progress.usage
    left = generation_pb2.Budget(account_id=budget.account_id)
    if budget.HasField("max_tokens"):
        left.max_tokens = max(0, budget.max_tokens - usage.input_tokens - usage.output_tokens)
    if budget.HasField("max_cost_micro_usd"):
        left.max_cost_micro_usd = max(0, budget.max_cost_micro_usd - usage.cost_micro_usd)
    if budget.HasField("max_model_calls"):
        left.max_model_calls = max(0, budget.max_model_calls - usage.model_calls)
    return left
