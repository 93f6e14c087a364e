import pytest

from services.pipeline.adapters.word_pieces import WordPieces
from services.pipeline.settings import Settings


@pytest.fixture(scope="session")
def word_pieces() -> WordPieces:
    return WordPieces.within(Settings().artifacts_dir)
