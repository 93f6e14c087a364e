"""What is told of a text's language, and what is not."""

import pytest

from services.router.adapters.languages import Languages, load_languages


@pytest.fixture(scope="session")
def languages() -> Languages:
    return load_languages()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("How long does the delivery to Boston take?", "en"),
        ("Wie lange dauert die Lieferung nach Hamburg?", "de"),
        ("Combien de temps dure la livraison à Lyon ?", "fr"),
        ("Quiero cerrar mi cuenta, ¿qué debo hacer?", "es"),
        ("Il mio server non si avvia più, cosa devo fare?", "it"),
        ("Jak długo trwa dostawa do Krakowa?", "pl"),
        ("Сколько длится доставка в Казань?", "ru"),
        ("フランスの首都はどこですか", "ja"),
    ],
)
def test_a_sentence_is_enough(languages: Languages, text: str, code: str) -> None:
    assert languages.tell(text) == code


@pytest.mark.parametrize("text", ["", "ok", "123 456", "x" * 5_000, "f(x)", "```\nfor x in range(3)"])
def test_what_could_be_any_language_is_told_to_be_none(languages: Languages, text: str) -> None:
    assert languages.tell(text) == ""


def test_code_says_nothing_of_the_language_around_it(languages: Languages) -> None:
    code = "```python\nfor name in the_list_of_all_the_words:\n    print(name, 'is what you have')\n```\n"
    assert languages.tell(code + "Warum gibt dieses Programm nichts aus?") == "de"
