"""Tune the encoder on the labelled texts, so that likeness means: this bears on that.

    pip install --group training --group test && pip install -e .
    python -m training.tune --output DIR [--moral-stories FILE]

All-MiniLM-L6-v2 is tuned whole but for its embedding tables. A batch holds bags (memories,
scenes, single statements; see ``labelled``), and every prompt in it is compared with every
statement. Three losses on the same cosines: of a prompt the statements that bear against all
others, of a statement the prompts against all others (both InfoNCE, arXiv:1807.03748), and
binary cross-entropy on each labelled pair, so that a cosine means the same for every prompt.
Statements of another bag count as not bearing, unless it is of the same domain: those are
left out. The contrasts are such that neither the prompt nor the statement alone tells the
label; how far each does is printed (``cues``). What was written last is learnt in a second,
shorter round, beside a part of the rest, so that more memories need no training from the start.
The weights are the mean of those after each round (a soup, arXiv:2203.05482), then averaged
with the official ones (WiSE-FT, arXiv:2109.01903), which keeps what those know. It computes in
bfloat16 where the processor can, in float32 elsewhere.

``--moral-stories`` names the pairs of a public set under MIT (norm and action); what is
shipped was made with it. Seeds are fixed: one machine gives the same weights again; on
another one the vectors differ by rounding (the model card says how much).
"""

import argparse
import random
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from . import cues, labelled
from .export import official_weights
from .labelled import Bag

SEED = 1
EPOCHS = 3
RATE = 1e-4
LATER_EPOCHS = 3
"""Over what was written last, in the second round."""
LATER_RATE = 7e-5
LATER_PART = 4
"""Of the rest and of the public pairs, one in so many is seen again in each of these epochs."""
SHARE = 0.9
"""Of the tuned weights in the average."""
TEMPERATURE = 0.05
MOST_TOKENS = 128
BATCH_TOKENS = 3_500
PROMPTS_AT_ONCE = 24
"""Of one bag in one batch, at most."""
PROMPTS = {"document": "value: ", "query": ""}
"""What stands before a statement and before a request, so that the encoder tells them apart."""
EARLIER = [name for name in labelled.MEMORIES if name != labelled.LATER]
"""Files of the memories of the first round."""
SINGLE_WEIGHT = 0.5
"""What a pair of a bag with one statement counts."""
MORAL_SHARE = 0.3
"""Of the public pairs, in each epoch."""
CUED_BAGS = 8
"""One bag in so many is looked at for cues: all of them take over half an hour of a processor."""
PAIRS_WEIGHT, OTHERS_WEIGHT = 1.5, 0.5
"""Of the cross-entropy, within bags and across."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What one batch gave."""

    prompts: torch.Tensor
    statements: torch.Tensor
    pairs: torch.Tensor
    others: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """What is made small."""
        ranking = 0.6 * self.prompts + 0.4 * self.statements
        return ranking + PAIRS_WEIGHT * self.pairs + OTHERS_WEIGHT * self.others


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
    parts: list[torch.Tensor] = []
    for rows in order.split(32):
        longest = int(lengths[rows].max())
        part = {
            name: value[rows][:, :longest]
            for name, value in features.items()
            if isinstance(value, torch.Tensor)
        }
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
            parts.append(model(part)["sentence_embedding"].float())
    return normalize(torch.cat(parts)[torch.argsort(order)], dim=-1)


@cache
def _has_bfloat16() -> bool:
    """Tell whether the processor multiplies in it; those that do not are a hundred times slower."""
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def losses(model: SentenceTransformer, calibrated: Calibrated, batch: Sequence[Bag]) -> Losses:
    """Compare every prompt of a batch with every statement."""
    statements = [PROMPTS["document"] + text for bag in batch for text in bag.statements]
    prompts = [text for bag in batch for text in bag.prompts]
    vectors = embed(model, statements + prompts)
    cosines = vectors[len(statements) :] @ vectors[: len(statements)].T
    bears, own = (torch.zeros(cosines.shape, dtype=torch.bool) for _ in range(2))
    weights = torch.empty(len(prompts), 1)
    row = column = 0
    for bag in batch:
        height, width = bag.bears.shape
        here = slice(row, row + height), slice(column, column + width)
        bears[here] = torch.from_numpy(bag.bears)
        own[here] = True
        weights[row : row + height] = 1.0 if width > 1 else SINGLE_WEIGHT
        row, column = row + height, column + width
    domains = {name: i for i, name in enumerate(dict.fromkeys(bag.domain for bag in batch))}
    of_prompt = torch.tensor([domains[bag.domain] for bag in batch for _ in bag.prompts])
    of_statement = torch.tensor([domains[bag.domain] for bag in batch for _ in bag.statements])
    unknown = (of_prompt[:, None] == of_statement[None]) & ~own
    against = ~bears & ~unknown
    scaled = cosines / TEMPERATURE
    counted = bears * weights
    rivals = scaled.masked_fill(~against, -1e4)

    def contrast(axis: int) -> torch.Tensor:
        others = torch.logsumexp(rivals, axis, keepdim=True)
        return ((torch.logaddexp(scaled, others) - scaled) * counted).sum() / counted.sum()

    logits = calibrated(cosines)
    each = binary_cross_entropy_with_logits(logits, bears.float(), reduction="none")
    several = torch.tensor([len(bag.statements) > 1 for bag in batch for _ in bag.prompts])
    labelled_pairs = own & several[:, None]
    across = against & ~own

    def mean(of: torch.Tensor) -> torch.Tensor:
        return (each * of).sum() / of.sum().clamp(min=1)

    return Losses(contrast(1), contrast(0), mean(labelled_pairs), mean(across))


def training_bags(*, mined: bool = False) -> list[Bag]:
    """Give all bags of the first round, whole."""
    return [
        *labelled.scenes(), *labelled.memories("train", cued=True, files=EARLIER),
        *labelled.asked_of_others("train"), *labelled.groups(),
        *(labelled.asked_of_others("train", "mined.jsonl") if mined else ()),
    ]  # fmt: skip


def later_bags() -> list[Bag]:
    """Give the memories that were written last."""
    return labelled.memories("train", files=[labelled.LATER])


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


def first_round(bags: Sequence[Bag], moral: Sequence[Bag], epochs: int) -> list[list[list[Bag]]]:
    """Plan the epochs over all bags, each the batches of it."""
    chance = random.Random(SEED)
    count = round(MORAL_SHARE * len(moral))

    def pieces() -> list[Bag]:
        return [*_cut(bags, chance), *chance.sample(moral, count)]

    return [_batches(pieces(), chance) for _ in range(epochs)]


def second_round(
    later: Sequence[Bag], bags: Sequence[Bag], moral: Sequence[Bag]
) -> list[list[list[Bag]]]:
    """Plan the epochs over what was written last, beside a part of the rest."""
    chance = random.Random(SEED)
    count = round(MORAL_SHARE * len(moral) / LATER_PART)

    def pieces() -> list[Bag]:
        again = chance.sample(bags, len(bags) // LATER_PART)
        return [*_cut([*later, *again], chance), *chance.sample(moral, count)]

    return [_batches(pieces(), chance) for _ in range(LATER_EPOCHS)]


def _cut(bags: Sequence[Bag], chance: random.Random) -> list[Bag]:
    """Shuffle each bag's prompts, and cut it where it has too many."""
    pieces: list[Bag] = []
    for bag in bags:
        rows = list(range(len(bag.prompts)))
        chance.shuffle(rows)
        count = -(-len(rows) // PROMPTS_AT_ONCE)
        for own in (rows[start::count] for start in range(count)):
            prompts = [bag.prompts[i] for i in own]
            pieces.append(replace(bag, prompts=prompts, bears=bag.bears[own]))
    return pieces


def _batches(pieces: list[Bag], chance: random.Random) -> list[list[Bag]]:
    """Shuffle bags and put them together, leaving out batches of less than three."""
    chance.shuffle(pieces)
    batches: list[list[Bag]] = [[]]
    held = 0
    for piece in pieces:
        size = sum(min(MOST_TOKENS, len(t.split()) * 4 // 3 + 2)
                   for t in piece.statements + piece.prompts)  # fmt: skip
        if batches[-1] and held + size > BATCH_TOKENS:
            batches.append([])
            held = 0
        batches[-1].append(piece)
        held += size
    return [batch for batch in batches if len(batch) > 2]


def tune(model: SentenceTransformer, plan: Sequence[Sequence[Sequence[Bag]]], rate: float) -> None:
    """Tune a model in place, and print how it goes.

    Args:
        model: any, with its weights.
        plan: the epochs, each of batches of bags.
        rate: the highest learning rate; it rises for a tenth of the steps and falls to nothing.
    """
    torch.manual_seed(SEED)
    model.max_seq_length = MOST_TOKENS
    for parameter in model[0].auto_model.embeddings.parameters():
        parameter.requires_grad = False
    calibrated = Calibrated()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": trained, "lr": rate}, {"params": calibrated.parameters(), "lr": 1e-2}]
    )
    total = sum(map(len, plan))
    warm, step, started = total // 10, 0, time.monotonic()
    model.train()
    for number, batches in enumerate(plan, start=1):
        seen: list[list[float]] = []
        for batch in batches:
            rising, falling = step / max(1, warm), (total - step) / max(1, total - warm)
            optimiser.param_groups[0]["lr"] = rate * min(rising, falling)
            found = losses(model, calibrated, batch)
            optimiser.zero_grad()
            found.total.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
            step += 1
            parts = (found.prompts, found.statements, found.pairs, found.others)
            seen.append([float(part.detach()) for part in parts])
            if step % 20 == 0:
                print(f"  step {step} of {total}, {time.monotonic() - started:.0f} s", flush=True)
        means = " ".join(f"{value:.3f}" for value in np.mean(seen, axis=0))
        print(f"epoch {number}: prompts, statements, pairs, others {means}", flush=True)
    model.eval()


def average(model: SentenceTransformer, other: SentenceTransformer, share: float) -> None:
    """Mix a model's weights with those of another; ``share`` of its own."""
    mixed = {
        name: value * share + before * (1 - share) if value.is_floating_point() else value
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
    parser.add_argument("--mined", action="store_true", help="learn from mined.jsonl too")
    arguments = parser.parse_args()
    folder = str(official_weights())
    model = SentenceTransformer(folder, device="cpu")
    bags = training_bags(mined=arguments.mined)
    moral = moral_bags(arguments.moral_stories) if arguments.moral_stories else []
    tune(model, first_round(bags, moral, arguments.epochs), RATE)
    after_first = deepcopy(model)
    later = later_bags()
    tune(model, second_round(later, bags, moral), LATER_RATE)
    average(model, after_first, 0.5)
    official = SentenceTransformer(folder, device="cpu")
    average(model, official, arguments.share)
    model.prompts = PROMPTS
    model.save(str(arguments.output))
    print(f"wrote {arguments.output}; next: python -m training.export --weights {arguments.output}")
    print(f"how far a prompt or a statement alone tells, one bag in {CUED_BAGS}:", flush=True)
    some = [*bags, *later][::CUED_BAGS]
    for line in cues.report(some, lambda t: official.encode(t, normalize_embeddings=True)):
        print(line)


if __name__ == "__main__":
    main()
