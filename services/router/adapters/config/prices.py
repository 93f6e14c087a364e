"""What `models.yaml` says that a model's tokens cost."""

from collections.abc import Mapping
from dataclasses import replace

from services.kit.config_file import ConfigFile, Location
from services.router.adapters.config.entries import ModelEntry, Origin
from services.router.domain.prices import Longer, Price, Prices, Tier, TokenKind

_Figures = dict[TokenKind, tuple[Price, Location]]
_Lists = dict[tuple[int, Tier | None], _Figures]
"""By the tokens of input above which, and the tier at which they hold; 0 and None for the usual ones."""


def read_prices(
    entry: ModelEntry, sources: Mapping[str, Origin], source: ConfigFile, location: Location
) -> Prices:
    """The prices of a model's entry, whose lines name only sources that exist.

    Raises:
        SettingsError: A price is there twice, or none for input, or a batch costs more than a single call, or
            no request of the model can be so long.
    """
    lists = _read_lists(entry, sources, source, location)
    if entry.prices and TokenKind.INPUT not in lists.get((0, None), {}):
        raise source.fault((*location, "prices"), "no price for input")
    usual: dict[TokenKind, Price] = {}
    found: list[Longer] = []
    for above in sorted({0, *(above for above, _ in lists)}):
        usual = usual | _bare(lists.get((above, None), {}))
        tiers = {tier: _bare(lists[above, tier]) for tier in Tier if (above, tier) in lists}
        prices = Prices(usual, {tier: Prices(usual | own) for tier, own in tiers.items()})
        for kind, (price, place) in lists.get((above, Tier.BATCH), {}).items():
            # What a call may cost at most is reckoned before anyone knows whether it is served like a batch.
            if price.micro_usd_per_mtok > prices.per_mtok(kind):
                raise source.fault(place, f"{kind.value} costs more in a batch than alone")
        found.append(Longer(above_tokens=above, prices=prices))
    return replace(found[0].prices, longer=tuple(found[1:]))


def _read_lists(
    entry: ModelEntry, sources: Mapping[str, Origin], source: ConfigFile, location: Location
) -> _Lists:
    lists: _Lists = {}
    for index, line in enumerate(entry.prices):
        where, above = (*location, "prices", index), line.above_tokens
        if above and above >= entry.context_window:
            message = f"no request is longer than the context window of {entry.context_window}"
            raise source.fault((*where, "above_tokens"), message)
        as_of = sources[line.source].as_of
        tiers = ((tier, line.at(tier), (*where, tier.value)) for tier in Tier)
        for tier, figures, place in ((None, line, where), *tiers):
            for kind in TokenKind:
                figure = getattr(figures, kind.value)
                if figure is None:
                    continue
                listed = lists.setdefault((above, tier), {})
                if kind in listed:
                    raise source.fault((*place, kind.value), f"a second price for {kind.value}")
                price = Price(micro_usd_per_mtok=figure, source=line.source, as_of=as_of)
                listed[kind] = price, (*place, kind.value)
    return lists


def _bare(figures: _Figures) -> dict[TokenKind, Price]:
    return {kind: price for kind, (price, _) in figures.items()}
