from functools import cache

from bpe_openai import _bindings as bindings  # type: ignore[import-untyped]

from services.gateway.domain.tokens import Counter, Vocabulary


@cache
def counter_of(vocabulary: Vocabulary) -> Counter:
    """The package's counter of plain text, loaded at first use in about 50 ms.

    Its public `Encoding` makes a list of all tokens and refuses more than 200,000 of them; the binding below it
    only counts.
    """
    counter: Counter = bindings.tokenizer_for_encoding(vocabulary.value).count
    return counter
