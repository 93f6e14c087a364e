"""The ONNX graph of all-MiniLM-L6-v2, built from its weights and kept beside them."""

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from safetensors.numpy import load

from services.kit.artifacts import MINILM, MINILM_WEIGHTS_SHA256, read_verified
from services.router.adapters.minilm.shape import DIMENSION, MAX_TOKENS

# Part of the cached file's name: raise it with every change of the graph.
GRAPH_VERSION = 1

LAYERS = 6
HEADS = 12
LAYER_NORM_EPSILON = 1e-12
FUSED = "com.microsoft"  # onnxruntime's own operators, which its CPU kernels run in one piece

Array = NDArray[np.float32]


def load_graph(directory: Path) -> Path | bytes:
    """Return the model: the cached file, made on first use, or its bytes where the folder is read-only.

    Raises:
        ArtifactError: `model.safetensors` is not in the folder, or is not the official one.
    """
    cached = directory / f"graph-{MINILM_WEIGHTS_SHA256[:16]}-v{GRAPH_VERSION}.onnx"
    weights = read_verified(MINILM, "model.safetensors", directory)
    if cached.is_file():
        return cached
    model = _Builder(load(weights)).build().SerializeToString()
    try:
        _write_atomically(cached, model)
    except OSError:
        return model
    return cached


def _write_atomically(path: Path, content: bytes) -> None:
    """Several processes may do this at once: each writes a file of its own, and the renames agree."""
    descriptor, name = tempfile.mkstemp(prefix=".graph-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()
        raise


class _Builder:
    """Collects nodes and constants; each method returns the name of its output."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def build(self) -> onnx.ModelProto:
        """Inputs `ids` and `mask`, int32 [batch, length ≤ 256]; output `embedding`, float32 [batch, 384]."""
        hidden = self._embed()
        for index in range(LAYERS):
            hidden = self._layer(hidden, f"encoder.layer.{index}.")
        self._pool(hidden)
        value = helper.make_tensor_value_info
        inputs = [value(name, onnx.TensorProto.INT32, ["batch", "length"]) for name in ("ids", "mask")]
        output = value("embedding", onnx.TensorProto.FLOAT, ["batch", DIMENSION])
        graph = helper.make_graph(self._nodes, "all-MiniLM-L6-v2", inputs, [output], self._constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(FUSED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def _embed(self) -> str:
        # Every token is of segment 0, so its vector is added to the positions once and for all.
        positions = (
            self._weights["embeddings.position_embeddings.weight"][:MAX_TOKENS]
            + self._weights["embeddings.token_type_embeddings.weight"][0]
        )
        inputs = [
            *("ids", "", self._weight("embeddings.word_embeddings.weight")),
            *(self._constant("embeddings.positions", positions), ""),
            *self._norm("embeddings.LayerNorm"),
        ]
        outputs = ["embeddings", "embeddings.mask_index"]
        return self._node("EmbedLayerNormalization", inputs, outputs, FUSED, epsilon=LAYER_NORM_EPSILON)

    def _layer(self, hidden: str, layer: str) -> str:
        """One BERT block: attention, then the feed-forward net, each added to its input and normalised."""
        projections = [f"{layer}attention.self.{part}" for part in ("query", "key", "value")]
        stacked = np.concatenate([self._weights[f"{name}.weight"].T for name in projections], axis=1)
        biases = np.concatenate([self._weights[f"{name}.bias"] for name in projections])
        context = self._node(
            "Attention",
            [
                hidden,
                self._constant(f"{layer}attention.weight", stacked),
                self._constant(f"{layer}attention.bias", biases),
                "mask",
            ],
            [f"{layer}attention.context"],
            FUSED,
            num_heads=HEADS,
        )
        attended = self._add_and_norm(context, hidden, f"{layer}attention.output.")
        inner = self._multiply(attended, f"{layer}intermediate.dense")
        inputs = [inner, self._weight(f"{layer}intermediate.dense.bias")]
        active = self._node("BiasGelu", inputs, [f"{layer}intermediate.gelu"], FUSED)
        return self._add_and_norm(active, attended, f"{layer}output.")

    def _add_and_norm(self, hidden: str, residual: str, block: str) -> str:
        dense = self._multiply(hidden, f"{block}dense")
        inputs = [dense, residual, *self._norm(f"{block}LayerNorm"), self._weight(f"{block}dense.bias")]
        outputs = [f"{block}sum"]
        return self._node("SkipLayerNormalization", inputs, outputs, FUSED, epsilon=LAYER_NORM_EPSILON)

    def _pool(self, hidden: str) -> None:
        """Mean over the mask, then length 1, in which the mean's division cancels out: so a sum does."""
        mask = self._node("Cast", ["mask"], ["pool.mask"], to=onnx.TensorProto.FLOAT)
        axis = self._constant("pool.axis", np.array([1]))
        rows = self._node("Unsqueeze", [mask, axis], ["pool.rows"])
        sums = self._node("MatMul", [rows, hidden], ["pool.sums"])
        flat = self._node("Squeeze", [sums, axis], ["pool.flat"])
        self._node("LpNormalization", [flat], ["embedding"], axis=-1, p=2)

    def _multiply(self, hidden: str, dense: str) -> str:
        weight = self._constant(f"{dense}.weight", self._weights[f"{dense}.weight"].T)
        return self._node("MatMul", [hidden, weight], [f"{dense}.product"])

    def _norm(self, name: str) -> tuple[str, str]:
        return self._weight(f"{name}.weight"), self._weight(f"{name}.bias")

    def _weight(self, name: str) -> str:
        return self._constant(name, self._weights[name])

    def _constant(self, name: str, values: NDArray[np.float32 | np.int64]) -> str:
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _node(
        self, operator: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: float
    ) -> str:
        node = helper.make_node(operator, inputs, outputs, None, None, domain, None, **attributes)
        self._nodes.append(node)
        return outputs[0]
