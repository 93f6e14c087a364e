"""What each public label set is trained with, for the shipped file and for its benchmark alike."""

from dataclasses import dataclass

from services.router.training.bag import BagOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A label set's name, the size of its table (2**bits rows), and how its bag is trained."""

    name: str
    bits: int
    options: BagOptions


CLINC = Recipe(name="clinc150", bits=15, options=BagOptions(rank=64, epochs=18, dropout=0.6))
BANKING = Recipe(name="banking77", bits=14, options=BagOptions(rank=48, epochs=20, dropout=0.6))
