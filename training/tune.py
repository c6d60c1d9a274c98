"""Tune the encoder on the labelled texts, so that likeness means: this bears on that.

    pip install --group training --group test && pip install -e .
    python -m training.tune --output DIR [--moral-stories FILE] [--device cuda]

All-MiniLM-L6-v2 is tuned whole but for its embedding tables. A batch holds bags (memories,
scenes, single statements; see ``labelled``), and every prompt in it is compared with every
statement. Memories come in groups of six that are much alike; what a larger model judged of
their pairs (``training.judged``) stands for the labels that nobody gave, and counts half
where there is one. Of the same cosines four things are asked: of a prompt the statements that
bear against all others, of a statement the prompts against all others (both InfoNCE,
arXiv:1807.03748), on each pair the probability of bearing (cross-entropy), so that a cosine
means the same for every prompt, and the order in which the larger model puts what it judged
(distillation, arXiv:1503.02531). Statements of another bag that were not judged count as not
bearing, unless it is of the same domain: those are left out. The contrasts are such that
neither the prompt nor the statement alone tells the label; how far each does is printed
(``cues``). The tuned weights are averaged with the official ones (WiSE-FT, arXiv:2109.01903),
which keeps what those know.

``--moral-stories`` names the pairs of a public set under MIT (norm and action); what is
shipped was made with it. It computes in bfloat16 where the processor can, in float32
elsewhere. Seeds are fixed: one machine gives the same weights again; on another one, and on a
GPU, dropout falls otherwise, and the model card says how far the figures move.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from . import cues, judged, labelled
from .export import official_weights
from .judged import Judged
from .labelled import Bag

SEED = 1
EPOCHS = 4
RATE = 3e-4
SHARE = 0.9
"""Of the tuned weights in the average."""
TEMPERATURE = 0.05
MOST_TOKENS = 128
PROMPTS_AT_ONCE = 24
"""Of one bag in one batch, at most."""
GROUPS_AT_ONCE = 2
"""Groups of memories in a batch; scenes and single statements are spread over all batches."""
PROMPTS = {"document": "value: ", "query": ""}
"""What stands before a statement and before a request, so that the encoder tells them apart."""
SINGLE_WEIGHT = 0.5
"""What a pair of a bag with one statement counts."""
MORAL_SHARE = 0.3
"""Of the public pairs, in each epoch."""
CUED_BAGS = 8
"""One bag in so many is looked at for cues: all of them take over half an hour of a processor."""
OWN_SHARE = 0.5
"""What the larger model's judgement counts on a pair that has a label."""
NEAR_SHIFT = -0.7
"""Added to the log-odds that it gives for statements of others."""
BELIEVED, DOUBTED = 0.5, 0.3
"""From and up to which belief a statement counts as bearing, and as not, where they compete."""
PAIRS_WEIGHT, NEAR_WEIGHT, OTHERS_WEIGHT, ORDER_WEIGHT = 1.5, 1.5, 0.5, 2.0
"""Of the cross-entropy on labelled pairs, on judged ones of others, and on all other pairs, and
of the order."""
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some prompts of one bag, with all its statements."""

    bag: Bag
    rows: NDArray[np.int64]
    memory: Judged | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Texts, and what is known of each pair of the p prompts and the s statements."""

    statements: list[str]
    prompts: list[str]
    belief: Floats
    """(p, s): the probability of bearing; of pairs of which nothing is known, 0."""
    labelled: Bools
    """(p, s): of one bag that has several statements."""
    judged: Bools
    """(p, s): by the larger model."""
    near: Bools
    """(p, s): judged, and of two memories."""
    counted: Bools
    """(p, s): bearing or not; not those of which nothing is known."""
    weights: Floats
    """(p, 1), of a prompt."""


class Calibrated(torch.nn.Module):
    """A cosine → the logit of bearing; learnt beside the encoder and dropped afterwards."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(12.0))
        self.offset = torch.nn.Parameter(torch.tensor(-5.5))

    def forward(self, cosines: torch.Tensor) -> torch.Tensor:
        """Give the logits."""
        return self.slope * cosines + self.offset


def embed(model: SentenceTransformer, texts: Sequence[str]) -> torch.Tensor:
    """Embed texts, short ones with short ones: (n, d), normalised, with gradients."""
    features = model.preprocess(list(texts))
    lengths = features["attention_mask"].sum(1)
    order = torch.argsort(lengths, stable=True)
    device = model.device.type
    parts: list[torch.Tensor] = []
    for rows in order.split(32 if device == "cpu" else 128):
        longest = int(lengths[rows].max())
        part = {
            name: value[rows][:, :longest].to(model.device, non_blocking=True)
            for name, value in features.items()
            if isinstance(value, torch.Tensor)
        }
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or _has_bfloat16()):
            parts.append(model(part)["sentence_embedding"].float())
    return normalize(torch.cat(parts)[torch.argsort(order).to(model.device)], dim=-1)


@cache
def _has_bfloat16() -> bool:
    """Tell whether the processor multiplies in it; those that do not are a hundred times slower."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def loss(model: SentenceTransformer, calibrated: Calibrated, batch: Batch) -> torch.Tensor:
    """Compare every prompt of a batch with every statement: (5,), the parts that are added up."""
    texts = [PROMPTS["document"] + text for text in batch.statements] + batch.prompts
    vectors = embed(model, texts)
    count = len(batch.statements)
    cosines = vectors[count:] @ vectors[:count].T

    def here(of: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(of).to(cosines.device)

    belief, was_judged = here(batch.belief), here(batch.judged)
    scaled = cosines / TEMPERATURE
    bearing = torch.where(belief >= BELIEVED, belief, 0) * here(batch.weights)
    rivals = scaled.masked_fill(~(here(batch.counted) & (belief <= DOUBTED)), -1e4)

    def contrast(axis: int) -> torch.Tensor:
        others = torch.logsumexp(rivals, axis, keepdim=True)
        return ((torch.logaddexp(scaled, others) - scaled) * bearing).sum() / bearing.sum()

    each = binary_cross_entropy_with_logits(calibrated(cosines), belief, reduction="none")

    def mean(of: Bools) -> torch.Tensor:
        pairs = here(of)
        return (each * pairs).sum() / pairs.sum().clamp(min=1)

    wanted = torch.softmax(torch.logit(belief, 1e-6).masked_fill(~was_judged, -1e4), 1)
    found = torch.log_softmax(scaled.masked_fill(~was_judged, -1e4), 1)
    order = -(wanted * found).sum(1)[was_judged.any(1)].sum() / was_judged.any(1).sum().clamp(min=1)
    rest = batch.counted & ~batch.labelled & ~batch.near & (batch.belief < BELIEVED)
    return torch.stack([
        0.6 * contrast(1) + 0.4 * contrast(0), PAIRS_WEIGHT * mean(batch.labelled),
        NEAR_WEIGHT * mean(batch.near), OTHERS_WEIGHT * mean(rest), ORDER_WEIGHT * order,
    ])  # fmt: skip


def moral_bags(path: Path) -> list[Bag]:
    """Give the pairs of Moral Stories (MIT): a norm, what keeps it and what breaks it."""
    return [
        Bag(
            name=f"moral {number}",
            domain=f"moral {number}",
            statements=[row["norm"]],
            strengths=["should"],
            prompts=[row["moral_action"], row["immoral_action"]],
            bears=np.ones((2, 1), np.bool_),
        )
        for number, row in enumerate(labelled.json_lines(path))
    ]


def plan(
    memories: Sequence[Judged], bags: Sequence[Bag], moral: Sequence[Bag], epochs: int
) -> list[list[list[Piece]]]:
    """Put the pieces of all bags into the batches of each epoch."""
    chance = np.random.default_rng(SEED)
    groups: dict[int, list[Judged]] = {}
    for memory in memories:
        groups.setdefault(memory.group, []).append(memory)

    def cut(bag: Bag) -> list[NDArray[np.int64]]:
        rows = chance.permutation(len(bag.prompts))
        count = -(-len(rows) // PROMPTS_AT_ONCE)
        return [rows[start::count] for start in range(count)]

    def epoch() -> list[list[Piece]]:
        units: list[list[Piece]] = []
        for group in groups.values():
            cuts = [(memory, cut(memory.bag)) for memory in group]
            units += [
                [Piece(own.bag, rows[at], own) for own, rows in cuts if at < len(rows)]
                for at in range(max(len(rows) for _, rows in cuts))
            ]
        some = chance.choice(len(moral), round(MORAL_SHARE * len(moral)), replace=False)
        small = [Piece(bag, rows) for bag in bags for rows in cut(bag)]
        small += [Piece(moral[i], np.arange(2)) for i in some]
        chance.shuffle(units)
        chance.shuffle(small)
        count = -(-len(units) // GROUPS_AT_ONCE)
        return [
            [piece for unit in units[at::count] for piece in unit] + small[at::count]
            for at in range(count)
        ]

    return [epoch() for _ in range(epochs)]


def gather(pieces: Sequence[Piece]) -> Batch:
    """Give the texts of a batch, and what is known of their pairs."""
    heights = [len(piece.rows) for piece in pieces]
    widths = [len(piece.bag.statements) for piece in pieces]
    shape = sum(heights), sum(widths)
    belief = np.zeros(shape, np.float32)
    inside, several, was_judged, near = (np.zeros(shape, np.bool_) for _ in range(4))
    weights = np.ones((shape[0], 1), np.float32)
    columns: dict[int, int] = {}
    for piece, start in zip(pieces, np.cumsum([0, *widths]), strict=False):
        if piece.memory:
            first = piece.memory.first
            columns |= {first + i: int(start) + i for i in range(len(piece.bag.statements))}
    row = column = 0
    for piece, height, width in zip(pieces, heights, widths, strict=True):
        here = slice(row, row + height), slice(column, column + width)
        inside[here] = True
        several[here] = width > 1
        belief[here] = piece.bag.bears[piece.rows]
        if width == 1:
            weights[row : row + height] = SINGLE_WEIGHT
        if piece.memory:
            of = row + np.arange(height)[:, None]
            own = column + piece.memory.own[piece.rows]
            said = _chance(piece.memory.own_odds[piece.rows])
            belief[of, own] = OWN_SHARE * said + (1 - OWN_SHARE) * belief[of, own]
            was_judged[of, own] = True
            numbers = piece.memory.near[piece.rows]
            places = np.array([[columns.get(int(n), -1) for n in some] for some in numbers])
            there = places >= 0  # of no memory in the batch otherwise
            of, places = np.broadcast_to(of, places.shape)[there], places[there]
            belief[of, places] = _chance(piece.memory.near_odds[piece.rows][there] + NEAR_SHIFT)
            was_judged[of, places] = near[of, places] = True
        row, column = row + height, column + width
    names = {name: i for i, name in enumerate(dict.fromkeys(p.bag.domain for p in pieces))}
    domain = np.array([names[piece.bag.domain] for piece in pieces])
    same = np.repeat(domain, heights)[:, None] == np.repeat(domain, widths)[None]
    return Batch(
        statements=[text for piece in pieces for text in piece.bag.statements],
        prompts=[piece.bag.prompts[i] for piece in pieces for i in piece.rows],
        belief=belief,
        labelled=several,
        judged=was_judged,
        near=near,
        counted=inside | ~same,
        weights=weights,
    )


def _chance(odds: Floats) -> Floats:
    return 1 / (1 + np.exp(-odds))


def tune(model: SentenceTransformer, epochs: Sequence[Sequence[Sequence[Piece]]]) -> None:
    """Tune a model in place, and print how it goes; the rate rises for a tenth of the steps."""
    torch.manual_seed(SEED)
    model.max_seq_length = MOST_TOKENS
    for parameter in model[0].auto_model.embeddings.parameters():
        parameter.requires_grad = False
    calibrated = Calibrated().to(model.device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": trained, "lr": RATE}, {"params": calibrated.parameters(), "lr": 1e-2}]
    )
    total = sum(map(len, epochs))
    warm, step, started = total // 10, 0, time.monotonic()
    model.train()
    for number, batches in enumerate(epochs, start=1):
        seen: list[torch.Tensor] = []
        for pieces in batches:
            rising, falling = (step + 1) / max(1, warm), (total - step) / max(1, total - warm)
            optimiser.param_groups[0]["lr"] = RATE * min(rising, falling)
            found = loss(model, calibrated, gather(pieces))
            optimiser.zero_grad()
            found.sum().backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            step += 1
            seen.append(found.detach())
            if step % 20 == 0:
                print(f"  step {step} of {total}, {time.monotonic() - started:.0f} s", flush=True)
        means = " ".join(f"{value:.3f}" for value in torch.stack(seen).mean(0))
        print(f"epoch {number}: contrasts, pairs, near, others, order {means}", flush=True)
    model.eval()


def average(model: SentenceTransformer, other: SentenceTransformer, share: float) -> None:
    """Mix a model's weights with those of another; ``share`` of its own."""
    mixed = {
        name: value * share + before.to(value.device) * (1 - share)
        if value.is_floating_point()
        else value
        for (name, value), before in zip(
            model.state_dict().items(), other.state_dict().values(), strict=True
        )
    }
    model.load_state_dict(mixed)


def main() -> None:
    """Tune, and write the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--moral-stories", type=Path, metavar="FILE", help="train_pairs.jsonl")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--share", type=float, default=SHARE)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    arguments = parser.parse_args()
    folder = str(official_weights())
    model = SentenceTransformer(folder, device=arguments.device)
    memories = judged.memories()
    bags = [*labelled.scenes(), *labelled.groups()]
    moral = moral_bags(arguments.moral_stories) if arguments.moral_stories else []
    tune(model, plan(memories, bags, moral, arguments.epochs))
    official = SentenceTransformer(folder, device="cpu")
    average(model, official, arguments.share)
    model.prompts = PROMPTS
    model.save(str(arguments.output))
    print(f"wrote {arguments.output}; next: python -m training.export --weights {arguments.output}")
    print(f"how far a prompt or a statement alone tells, one bag in {CUED_BAGS}:", flush=True)
    some = [*bags, *(memory.bag for memory in memories)][::CUED_BAGS]
    for line in cues.report(some, lambda t: official.encode(t, normalize_embeddings=True)):
        print(line)


if __name__ == "__main__":
    main()
