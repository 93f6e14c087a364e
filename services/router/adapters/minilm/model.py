"""all-MiniLM-L6-v2 in this process: text in, unit vectors out. Used inside the worker process only."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from tokenizers import Tokenizer

from services.kit.artifacts import MINILM, read_verified
from services.router.adapters.minilm.graph import load_graph
from services.router.adapters.minilm.shape import DIMENSION, MAX_TOKENS

# Padded tokens in one run. On one thread a larger batch is no faster (measured: 4,000 tokens/s from 64 to 512
# tokens, 3,200 at 8,192), it only pads more and takes more memory.
BATCH_TOKENS = 512


class MiniLM:
    """The tokenizer and the model; loading takes some 0.4 s, the first time ever some 2 s more.

    Args:
        directory: holds `model.safetensors` and `tokenizer.json`; the built graph is cached there.
        threads: threads of one matrix product.

    Raises:
        ArtifactError: the folder does not hold the official model.
    """

    def __init__(self, directory: Path, *, threads: int = 1) -> None:
        graph = load_graph(directory)
        self._tokenizer = Tokenizer.from_buffer(read_verified(MINILM, "tokenizer.json", directory))
        # The file asks for padding to 128 and a cut at 128, which is not how the model is used.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def count_tokens(self, text: str) -> int:
        """Count the tokens that the model reads of the text: with [CLS] and [SEP], 256 at most."""
        return len(self._tokenizer.encode(text).ids)

    def embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[int]]:
        """Return vectors of length 1, [len(texts), 384], and the number of tokens read of each text."""
        # One by one: the tokenizer's batch call would start a thread for every core.
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        vectors = np.empty((len(texts), DIMENSION), dtype=np.float32)
        for rows in _batches([len(ids) for ids in tokens]):
            vectors[rows] = self._run([tokens[row] for row in rows])
        return vectors, [len(ids) for ids in tokens]

    def _run(self, batch: list[list[int]]) -> NDArray[np.float32]:
        ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int32)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        vectors: NDArray[np.float32] = self._session.run(["embedding"], {"ids": ids, "mask": mask})[0]
        return vectors


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group row numbers of like lengths, so that a batch holds little padding and at most `BATCH_TOKENS`."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
