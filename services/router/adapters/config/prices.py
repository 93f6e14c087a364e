"""What `models.yaml` says that a model's tokens cost."""

from collections.abc import Mapping

from services.kit.config_file import ConfigFile, Location
from services.router.adapters.config.entries import ModelEntry, Origin
from services.router.domain.prices import Price, Prices, Tier, TokenKind

_Lists = dict[Tier | None, dict[TokenKind, Price]]


def read_prices(
    entry: ModelEntry, sources: Mapping[str, Origin], source: ConfigFile, location: Location
) -> Prices:
    """The prices of a model's entry, whose lines name only sources that exist.

    Raises:
        SettingsError: A price is there twice, or none for input, or a batch costs more than a single call.
    """
    lists: _Lists = {}
    places: dict[tuple[Tier | None, TokenKind], Location] = {}
    for index, line in enumerate(entry.prices):
        where = (*location, "prices", index)
        as_of = sources[line.source].as_of
        tiers = ((tier, line.at(tier), (*where, tier.value)) for tier in Tier)
        for tier, figures, place in ((None, line, where), *tiers):
            for kind in TokenKind:
                figure = getattr(figures, kind.value)
                if figure is None:
                    continue
                listed, at = lists.setdefault(tier, {}), (*place, kind.value)
                if kind in listed:
                    raise source.fault(at, f"a second price for {kind.value}")
                listed[kind] = Price(micro_usd_per_mtok=figure, source=line.source, as_of=as_of)
                places[tier, kind] = at
    plain = lists.pop(None, {})
    if entry.prices and TokenKind.INPUT not in plain:
        raise source.fault((*location, "prices"), "no price for input")
    alone = Prices(plain)
    for kind, price in lists.get(Tier.BATCH, {}).items():
        # What a call may cost at most is reckoned before anyone knows whether it will be served like a batch.
        if price.micro_usd_per_mtok > alone.per_mtok(kind):
            raise source.fault(places[Tier.BATCH, kind], f"{kind.value} costs more in a batch than alone")
    return Prices(plain, {tier: Prices({**plain, **own}) for tier, own in lists.items() if tier})
