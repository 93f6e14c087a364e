"""Which planner makes a run's plans, and how a model is made to plan."""

from quartet.common.v1 import generation_pb2, run_pb2
from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.errors import Cancelled, DeadlineExceeded, QuartetError, ResourceExhausted
from services.orchestrator.domain.addressing import address
from services.orchestrator.domain.model_plan import MalformedPlanError, read_plan
from services.orchestrator.domain.planner import make_plan
from services.orchestrator.domain.progress import Progress, total
from services.orchestrator.domain.prompts import plan_prompt, repair_prompt
from services.orchestrator.domain.synthesis import text_of
from services.orchestrator.ports import Router

LOCAL_PROVIDER = "local"
LOOK_TIMEOUT_S = 5.0

Planned = tuple[run_pb2.PlanMade, generation_pb2.Usage]


class Planning:
    """Makes plans: by rules, or by a model, whose malformed plan is mended once and then left to the rules.

    Args:
        default: `rules`, `model`, or `auto`: a model where one is configured that is not local.
    """

    def __init__(self, router: Router, *, default: str) -> None:
        self._router = router
        self._default = default

    async def plan(self, run_id: str, progress: Progress, call: Call) -> Planned:
        """The next plan, and what it cost.

        Raises:
            QuartetError: out of time or budget, or cancelled; other failures of the model leave the rules.
        """
        if await self._asks_model(progress, call):
            return await self._by_model(run_id, progress, call)
        return make_plan(progress), generation_pb2.Usage()

    async def _asks_model(self, progress: Progress, call: Call) -> bool:
        choice = progress.task.planner or self._default
        if choice != "auto":
            return choice == "model"
        try:
            response = await self._router.list_models(
                router_pb2.ListModelsRequest(), call.outgoing(timeout_s=LOOK_TIMEOUT_S)
            )
        except QuartetError:
            return False
        return any(
            model.available and model.provider != LOCAL_PROVIDER and "embeddings" not in model.capabilities
            for model in response.models
        )

    async def _by_model(self, run_id: str, progress: Progress, call: Call) -> Planned:
        prompt = plan_prompt(progress)
        spent: list[generation_pb2.Usage] = []
        for attempt in ("plan", "repair"):
            address(prompt, run_id, f"{attempt}-{len(progress.plans) + 1}", progress)
            try:
                request = router_pb2.GenerateRequest(prompt=prompt)
                completion = (await self._router.generate(request, call.outgoing())).completion
            except (Cancelled, DeadlineExceeded, ResourceExhausted):
                raise
            except QuartetError:
                break
            spent.append(completion.usage)
            answer = text_of(completion)
            try:
                return read_plan(progress, answer), total(spent)
            except MalformedPlanError as fault:
                prompt = repair_prompt(prompt, answer, str(fault))
        return make_plan(progress), total(spent)
