"""What all-MiniLM-L6-v2 takes and gives; imported by the parent too, so nothing heavy is imported here."""

from typing import Final

DIMENSION: Final = 384
# As the published model is configured (sentence_bert_config.json), with [CLS] and [SEP]: 254 word pieces.
MAX_TOKENS: Final = 256
