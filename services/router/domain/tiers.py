from dataclasses import dataclass

from services.router.domain.policy import Calibration, Policy
from services.router.domain.routes import Route

CHEAPER = "cheaper"
STRONG = "strong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """The choice between a route's cheaper and strong models.

    Attributes:
        live, shadow: `cheaper` or `strong`; `shadow` is empty without a shadow policy.
        cheaper_models: Ids of the models of the cheaper tier.
        cheaper_cost_micro_usd, strong_cost_micro_usd: What the first model of each that can serve would cost.
    """

    uplift: float
    live: str
    shadow: str
    cheaper_models: frozenset[str]
    cheaper_cost_micro_usd: int
    strong_cost_micro_usd: int

    def tier_of(self, model: str) -> str:
        """The tier of a model that answered, which a failure may have made another than was chosen."""
        return CHEAPER if model in self.cheaper_models else STRONG


def choose_tiers(
    route: Route,
    calibration: Calibration,
    *,
    uplift: float,
    cheaper_models: frozenset[str],
    cheaper_cost_micro_usd: int,
    strong_cost_micro_usd: int,
) -> Tiers:
    """What the route's policies say of a prompt; a route without a live one keeps its strong models."""
    ratio = strong_cost_micro_usd / max(cheaper_cost_micro_usd, 1)

    def choose(policy: Policy) -> str:
        return STRONG if uplift >= calibration.threshold(policy, cost_ratio=ratio) else CHEAPER

    return Tiers(
        uplift=uplift,
        live=choose(route.policy) if route.policy else STRONG,
        shadow=choose(route.shadow) if route.shadow else "",
        cheaper_models=cheaper_models,
        cheaper_cost_micro_usd=cheaper_cost_micro_usd,
        strong_cost_micro_usd=strong_cost_micro_usd,
    )
