"""Let a larger model that reads both texts together judge pairs that nobody labelled.

    pip install --group training --group test && pip install -e .
    python -m training.teach [--model NAME_OR_PATH] [--device cuda] [--steps N]

All-mpnet-base-v2 is fitted as a cross-encoder on the labelled pairs of the memories and scenes:
each prompt with every statement that bears on it, the nearest that do not, and two others;
cross-entropy on each pair, and of a prompt what bears against the rest. It is far too slow to
run at each request, and it judges better than two vectors can: what it says of a prompt and
the nearest statements of like memories is written to ``training/data/judged.npz``, from which
``training.tune`` learns. What is near is told by the bundled embedder.

It needs a GPU (five minutes on a large one). Seeds are fixed; it gives the same again on
the same machine, versions and bundled embedder.
"""

import argparse
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AutoModel, AutoTokenizer

from holdfast.retrieval.embedder import open_embedder

from . import judged, labelled
from .judged import NEAR, OWN, Floats, Places
from .labelled import Bag

SEED = 1
MODEL = "sentence-transformers/all-mpnet-base-v2"
STEPS = 2_300
LISTS_AT_ONCE = 44
"""Prompts in a batch, each with its statements."""
RATE, HEAD_RATE = 6e-5, 1e-3
LIST_WEIGHT = 0.15
HARD, QUIET_HARD, RANDOM = 4, 3, 2
"""Nearest statements that do not bear, of a prompt on which some bears and of one on which none
does, and others."""
GROUP, ALIKE = 6, 20
"""Memories in a group; drawn from so many that are most alike."""
MOST_TOKENS = 184
PAIRS_AT_ONCE = 768
Vectors = dict[str, NDArray[np.float32]]


class Teacher(torch.nn.Module):
    """Statement and prompt, read together → the logit that the one bears on the other."""

    def __init__(self, name: str, device: str) -> None:
        super().__init__()
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        self.body = AutoModel.from_pretrained(name, add_pooling_layer=False)
        self.head = torch.nn.Linear(2 * self.body.config.hidden_size, 1)
        self.body.embeddings.word_embeddings.weight.requires_grad = False
        self.to(device)

    def forward(self, statements: Sequence[str], prompts: Sequence[str]) -> torch.Tensor:
        """Judge n pairs: (n,)."""
        device = self.head.weight.device
        tokens = self.tokenizer(
            list(statements), list(prompts), padding=True, truncation="longest_first",
            max_length=MOST_TOKENS, return_tensors="pt", pad_to_multiple_of=8,
        ).to(device)  # fmt: skip
        with torch.autocast(device.type, torch.bfloat16):
            states = self.body(**tokens).last_hidden_state
        states, mask = states.float(), tokens["attention_mask"][..., None]
        mean = (states * mask).sum(1) / mask.sum(1)
        return self.head(torch.cat([mean, states[:, 0]], 1))[:, 0]


def vectors(bags: Sequence[Bag]) -> Vectors:
    """Embed every text of bags, statements as what is kept and prompts as requests."""
    embedder = open_embedder("bundled")
    statements = list(dict.fromkeys(text for bag in bags for text in bag.statements))
    prompts = list(dict.fromkeys(text for bag in bags for text in bag.prompts))
    kept = embedder.embed(statements)
    asked = embedder.embed(prompts, role="query")
    return dict(zip(statements, kept, strict=True)) | dict(zip(prompts, asked, strict=True))


def lists(bags: Sequence[Bag], known: Vectors) -> list[tuple[Bag, int, Places]]:
    """Give for each prompt the statements with which it is learnt: (bag, prompt, statements)."""
    chance = np.random.default_rng(SEED)
    found: list[tuple[Bag, int, Places]] = []
    for bag in bags:
        likeness = _cosines(bag.prompts, bag.statements, known)
        for row, bears in enumerate(bag.bears):
            quiet = np.flatnonzero(~bears)
            quiet = quiet[np.argsort(-likeness[row, quiet])]
            count = HARD if bears.any() else QUIET_HARD
            others = chance.permutation(quiet[count:])[:RANDOM]
            found.append((bag, row, np.r_[np.flatnonzero(bears), quiet[:count], others]))
    return found


def grouped(bags: Sequence[Bag], known: Vectors) -> Places:
    """Put memories into groups of much alike ones: (bags,), the number of each one's group."""
    chance = np.random.default_rng(SEED)
    centres = np.stack([np.mean([known[s] for s in bag.statements], axis=0) for bag in bags])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    group = np.full(len(bags), -1)
    number = 0
    for first in chance.permutation(len(bags)):
        if group[first] >= 0:
            continue
        group[first] = number
        left = np.flatnonzero(group < 0)
        alike = left[np.argsort(-(centres[left] @ centres[first]))[:ALIKE]]
        rest = left if len(left) < GROUP - 1 else chance.choice(alike, GROUP - 1, replace=False)
        group[rest] = number
        number += 1
    return group


def candidates(bags: Sequence[Bag], group: Places, known: Vectors) -> tuple[Places, Places]:
    """Give what is to be judged of each prompt: (prompts, NEAR) numbers, (prompts, OWN) places."""
    starts = np.cumsum([0, *(len(bag.statements) for bag in bags)])
    near: list[Places] = []
    own: list[Places] = []
    for number, bag in enumerate(bags):
        inside = _cosines(bag.prompts, bag.statements, known)
        own += [np.resize(order[:OWN], OWN) for order in np.argsort(-inside, axis=1)]
        others: dict[str, int] = {}
        for other in np.flatnonzero(group == group[number]):
            if other != number:
                for place, text in enumerate(bags[other].statements):
                    others.setdefault(text, int(starts[other]) + place)
        texts = [text for text in others if text not in bag.statements]
        numbers = np.array([others[text] for text in texts])
        outside = _cosines(bag.prompts, texts, known)
        near += [numbers[order[:NEAR]] for order in np.argsort(-outside, axis=1)]
    return np.stack(near), np.stack(own)


def _cosines(prompts: Sequence[str], statements: Sequence[str], known: Vectors) -> Floats:
    left, right = ([known[text] for text in texts] for texts in (prompts, statements))
    return np.stack(left) @ np.stack(right).T


def learn(teacher: Teacher, found: Sequence[tuple[Bag, int, Places]], steps: int) -> None:
    """Fit the teacher; the rate rises for a sixteenth of the steps and falls to nothing."""
    torch.manual_seed(SEED)
    device = teacher.head.weight.device
    trained = [p for p in teacher.body.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        [{"params": trained, "lr": RATE}, {"params": teacher.head.parameters(), "lr": HEAD_RATE}]
    )
    batches = _batches(found)
    started = time.monotonic()
    teacher.train()
    for step in range(steps):
        gone = (step + 1) / steps
        optimiser.param_groups[0]["lr"] = RATE * min(gone * 16, (1 - gone) * 16 / 15)
        optimiser.param_groups[1]["lr"] = HEAD_RATE * min(1, 2 * (1 - gone))
        batch = next(batches)
        statements = [bag.statements[i] for bag, _, places in batch for i in places]
        prompts = [bag.prompts[row] for bag, row, places in batch for _ in places]
        bears = np.concatenate([bag.bears[row, places] for bag, row, places in batch])
        owner = np.repeat(np.arange(len(batch)), [len(places) for _, _, places in batch])
        logits = teacher(statements, prompts)
        wanted = torch.from_numpy(bears).to(device, torch.float32)
        of = torch.from_numpy(owner).to(device)
        sums = torch.zeros(len(batch), device=device).index_add(0, of, torch.exp(logits))
        among = ((torch.log(sums)[of] - logits) * wanted).sum() / wanted.sum().clamp(min=1)
        loss = binary_cross_entropy_with_logits(logits, wanted) + LIST_WEIGHT * among
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if (step + 1) % 100 == 0 or step + 1 == steps:
            print(f"  step {step + 1} of {steps}, {time.monotonic() - started:.0f} s", flush=True)
    teacher.eval()


def _batches(found: Sequence[tuple[Bag, int, Places]]) -> Iterator[list[tuple[Bag, int, Places]]]:
    """Give batches of prompts of about one length, epoch after epoch."""
    chance = np.random.default_rng(SEED)
    lengths = np.array([len(bag.prompts[row]) for bag, row, _ in found])
    while True:
        order = chance.permutation(len(found))
        rows = [
            part[np.argsort(lengths[part])[start : start + LISTS_AT_ONCE]]
            for part in np.array_split(order, max(1, len(order) // 4_000))
            for start in range(0, len(part), LISTS_AT_ONCE)
        ]
        for at in chance.permutation(len(rows)):
            yield [found[i] for i in rows[at]]


@torch.no_grad()
def judge(teacher: Teacher, statements: Sequence[str], prompts: Sequence[str]) -> Floats:
    """Give the log-odds of n pairs: (n,)."""
    order = np.argsort([len(s) + len(p) for s, p in zip(statements, prompts, strict=True)])
    odds = np.empty(len(order), np.float32)
    for start in range(0, len(order), PAIRS_AT_ONCE):
        rows = order[start : start + PAIRS_AT_ONCE]
        pairs = [statements[i] for i in rows], [prompts[i] for i in rows]
        odds[rows] = teacher(*pairs).float().cpu().numpy()
        if start % (200 * PAIRS_AT_ONCE) == 0:
            print(f"  judged {start:,} of {len(order):,}", flush=True)
    return odds


def report(teacher: Teacher, name: str, bags: Sequence[Bag]) -> str:
    """Say how well the teacher tells what bears in memories that it has not seen."""
    pairs = [(s, p) for bag in bags for p in bag.prompts for s in bag.statements]
    odds = judge(teacher, [s for s, _ in pairs], [p for _, p in pairs])
    bears = np.concatenate([bag.bears.ravel() for bag in bags])
    chance = np.mean(1 / (1 + np.exp(-odds)))
    return (
        f"{name}: AUROC {roc_auc_score(bears, odds):.3f}, F1 at even odds "
        f"{f1_score(bears, odds > 0):.3f}; said to bear {chance:.3f}, labelled {bears.mean():.3f}"
    )


def main() -> None:
    """Fit the teacher, say how good it is, and write what it judged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default=MODEL, help="to start from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    bags = judged.whole()
    learnt = [*bags, *labelled.scenes()]
    print("embedding", flush=True)
    known = vectors(learnt)
    torch.manual_seed(SEED)
    teacher = Teacher(arguments.model, arguments.device)
    learn(teacher, lists(learnt, known), arguments.steps)
    print(report(teacher, "dev memories", labelled.memories("dev", cued=True)))
    print(report(teacher, "asked of others", labelled.asked_of_others("dev")))
    group = grouped(bags, known)
    near, own = candidates(bags, group, known)
    every = [text for bag in bags for text in bag.statements]
    asked = [(bag, prompt) for bag in bags for prompt in bag.prompts]
    texts = [text for _, text in asked]
    near_odds = judge(
        teacher, [every[i] for i in near.ravel()], [t for t in texts for _ in range(NEAR)]
    )
    own_odds = judge(
        teacher,
        [bag.statements[i] for (bag, _), places in zip(asked, own, strict=True) for i in places],
        [t for t in texts for _ in range(OWN)],
    )
    judged.write(bags, group, near, near_odds.reshape(near.shape), own, own_odds.reshape(own.shape))
    print(f"wrote {judged.FILE}; next: python -m training.tune")


if __name__ == "__main__":
    main()
