"""What a text wants: the likeliest label of a set, or that it is none of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.router.learned.bag import Bag, Floats, Terms, Vocabulary, softmax
from services.router.learned.features import read


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A label and how sure the classifier is, 0..1; of the outside label it is how unsure of all others.

    Attributes:
        is_known: False when no label reached its threshold, so that the outside label stands for all of them.
    """

    name: str
    confidence: float
    is_known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sense:
    """A linear classifier of MiniLM's vector of the text [384, labels], the optional second stage.

    Attributes:
        weights, bias: The linear layer.
        share: Weight of its opinion beside that of the words.
        threshold: Least probability of a label told from both.
    """

    weights: Floats
    bias: Floats
    share: float
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentClassifier:
    """One label set.

    Attributes:
        labels: Names in the order of the probabilities.
        outside: Answered where no label reaches its threshold, "" where every text has a label.
        threshold: Least probability of a label told from the words alone.
        vocabulary, bag: Tell the label from words, pairs and, where `reads_grams`, character n-grams.
        sense: Tells the label from MiniLM's vector, where one is given; better, and dearer by some ms.
    """

    labels: tuple[str, ...]
    outside: str
    threshold: float
    vocabulary: Vocabulary
    bag: Bag
    reads_grams: bool
    sense: Sense | None

    def terms(self, text: str) -> Terms:
        """The text's terms that this classifier reads."""
        return self.vocabulary.terms(read(text, with_grams=self.reads_grams).hashes)

    def classify(self, terms: Terms, vector: NDArray[np.float32] | None = None) -> Intent:
        """Name the label of a text, by its vector of length 1 [384] too where that is given."""
        return self.weigh(self.bag.logits(terms), vector)

    def weigh(self, logits: Floats, vector: NDArray[np.float32] | None = None) -> Intent:
        """Name the label of the bag's logits, as `classify`."""
        shares = softmax(logits)
        if vector is None or self.sense is None:
            return self._choose(shares, self.threshold)
        sensed = softmax(vector @ self.sense.weights + self.sense.bias)
        return self._choose(shares + self.sense.share * (sensed - shares), self.sense.threshold)

    def _choose(self, shares: Floats, threshold: float) -> Intent:
        best = int(shares.argmax())
        confidence = float(shares[best])
        if self.outside and confidence < threshold:
            return Intent(name=self.outside, confidence=1.0 - confidence, is_known=False)
        return Intent(name=self.labels[best], confidence=confidence)
