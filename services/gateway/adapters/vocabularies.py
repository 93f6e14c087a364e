import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from services.gateway.domain.tokens.counter import Counter
from services.gateway.domain.tokens.counting import Vocabulary

_PACKAGE, _EXTENSION = "bpe_openai", "_bindings"


@cache
def counter_of(vocabulary: Vocabulary) -> Counter:
    """A counter of plain text, loaded at first use in about 50 ms."""
    counter: Counter = _bindings().tokenizer_for_encoding(vocabulary.value).count
    return counter


@cache
def _bindings() -> Any:
    """The package's extension by itself.

    The Python around it would parse three vocabularies at import, a second time, into 100 MiB of objects; its
    `Encoding` makes a list of all tokens where a count is wanted, and refuses more than 200,000.
    """
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"{_PACKAGE} is not installed: install quartet[gateway]", name=_PACKAGE)
    path = next(Path(package.origin).parent.glob(f"{_EXTENSION}.*so"))
    spec = importlib.util.spec_from_file_location(f"{_PACKAGE}.{_EXTENSION}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded", name=_PACKAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
