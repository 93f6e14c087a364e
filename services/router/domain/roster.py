"""Who serves under each name today, whatever is asked: worked out once a day, read by every decision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial

from services.router.domain.catalogue import Catalogue, Model, Providers

MAX_REMEMBERED_LISTS = 1024
"""Lists of names that are known at a time; each route has two, and each set of a key's models one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrant:
    """A model that serves under a name.

    Attributes:
        model: The named one, or its successor.
        notes: What callers who name it should know.
        unavailable_because: Why it could not be called, whatever the prompt; empty when it could.
    """

    model: Model
    notes: tuple[str, ...]
    unavailable_because: str


class Roster:
    """The catalogue's models as they stand on a day.

    Args:
        providers: Which can be called; every provider of the catalogue is in it.
        today: Gives the day by which shutdowns are judged.
    """

    def __init__(self, catalogue: Catalogue, providers: Providers, today: Callable[[], date]) -> None:
        self._catalogue = catalogue
        self._providers = providers
        self._today = today
        self._enlist = lru_cache(MAX_REMEMBERED_LISTS)(partial(_enlist, catalogue, providers))

    def enlist(self, names: tuple[str, ...]) -> tuple[Entrant, ...]:
        """Who serves under these names, each model once; raises NotFound for an unknown name."""
        return self._enlist(names, self._today())

    def list_permitted(self, names: Sequence[str]) -> frozenset[str]:
        """Ids of the models that serve under those of these names that there are."""
        known = tuple(name for name in names if name in self._catalogue)
        return frozenset(entrant.model.id for entrant in self.enlist(known))

    def why_unavailable(self, model: Model) -> str:
        """Why a model could not be called now, whatever the prompt; empty when it could."""
        return _why_unavailable(model, self._providers, self._today())


def _enlist(
    catalogue: Catalogue, providers: Providers, names: tuple[str, ...], today: date
) -> tuple[Entrant, ...]:
    entrants: dict[str, Entrant] = {}
    for name in names:
        model, notes = catalogue.succeed(catalogue.find(name), today)
        if model.id not in entrants:
            because = _why_unavailable(model, providers, today)
            entrants[model.id] = Entrant(model=model, notes=notes, unavailable_because=because)
    return tuple(entrants.values())


def _why_unavailable(model: Model, providers: Providers, today: date) -> str:
    if model.is_dead(today):
        hint = f"; name {model.successor} instead" if model.successor else ""
        return f"it was shut down on {model.shutdown}{hint}"
    reasons = [providers[site.provider].unavailable_because for site in model.all_sites()]
    return min(reasons, key=bool)
