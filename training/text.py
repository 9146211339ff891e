"""The tokenizer and the two text encoders, taught to say back what a caption asks for."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from training.captions import caption
from training.loop import Checkpoints, Progress, device, rate_at, seed_step
from training.scenes import (
    ALL_COLOURS,
    BACKGROUNDS,
    MOONS,
    OBJECTS,
    SEEN,
    SIDES,
    TIMES,
    WEATHERS,
    Scene,
    draw_scene,
)

VOCABULARY = 1536
WIDTH = 64
PROJECTION = 128
TOKENS = 77
BATCH = 64
STEPS = 1_500
RATE = 2e-3
CAPTIONS = 20_000
# Every attribute that a caption can name; "-" where it does not apply.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "time": TIMES,
    "background": BACKGROUNDS,
    "object": OBJECTS,
    "weather": WEATHERS,
    "colour": ("-", *ALL_COLOURS),
    "side": ("-", *SIDES),
    "moon": ("-", *MOONS),
}


def labels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """The class of each attribute of each scene, (B,)."""
    return {
        name: torch.tensor([values.index(getattr(scene, name) or "-") for scene in scenes])
        for name, values in ATTRIBUTES.items()
    }


def train_tokenizer() -> CLIPTokenizer:
    """Byte-level BPE like CLIP's, learnt on captions; text in any script can be encoded."""
    rng = random.Random(0)
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    template = CLIPTokenizer().backend_tokenizer
    bpe.normalizer, bpe.pre_tokenizer = template.normalizer, template.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator((caption(s, rng) for s in _random_scenes(rng, CAPTIONS)), trainer)
    learnt = json.loads(bpe.to_str())["model"]["merges"]
    # CLIP's own order of ids: bytes, bytes that end a word, merges, the two special tokens.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(left, right) for left, right in learnt][: VOCABULARY - 2 - 2 * len(letters)]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(m) for m in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def new_encoders(tokenizer: CLIPTokenizer) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Untrained encoders: 64 wide each, together 128; the second one also pools into 128."""
    shared = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "projection_dim": PROJECTION,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    first = CLIPTextModel(CLIPTextConfig(**shared, hidden_act="quick_gelu"))
    second = CLIPTextModelWithProjection(CLIPTextConfig(**shared, hidden_act="gelu"))
    return first, second


class TextEncoders(nn.Module):
    """Both encoders as the SDXL pipeline uses them, and heads that read the attributes back."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection],
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.first, self.second = encoders
        classes = sum(len(values) for values in ATTRIBUTES.values())
        self.heads = nn.ModuleList(
            nn.Linear(width, classes) for width in (WIDTH, WIDTH, PROJECTION)
        )

    def tokenize(self, texts: list[str], *, full: bool) -> Tensor:
        """Token ids, (B, 77) if full, else padded to the longest."""
        padding = "max_length" if full else "longest"
        batch = self.tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
        ids: Tensor = batch.input_ids
        return ids.to(device())

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Last hidden states but one, (B, L, 64) of each encoder, and the pooled text, (B, 128)."""
        first = self.first(ids, output_hidden_states=True)
        second = self.second(ids, output_hidden_states=True)
        return first.hidden_states[-2], second.hidden_states[-2], second.text_embeds

    @torch.no_grad()
    def encode(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Prompt embeddings (B, 77, 128) and pooled embeddings (B, 128), as encode_prompt's."""
        first, second, pooled = self(self.tokenize(texts, full=True))
        return torch.cat([first, second], dim=-1), pooled

    def guesses(self, ids: Tensor) -> list[dict[str, Tensor]]:
        """Logits of each attribute from the first encoder, the second, and the pooled text."""
        first, second, pooled = self(ids)
        rows = torch.arange(len(ids), device=ids.device)
        end = (ids == self.tokenizer.eos_token_id).int().argmax(dim=1)
        # The UNet attends to the padding as well, so that has to know what was asked, too.
        at = (end + torch.randint(0, 40, end.shape, device=ids.device)).clamp(max=ids.shape[1] - 1)
        sources = (first[rows, at], second[rows, at], pooled)
        sizes = [len(values) for values in ATTRIBUTES.values()]
        split = (
            head(source).split(sizes, dim=-1)
            for head, source in zip(self.heads, sources, strict=True)
        )
        return [dict(zip(ATTRIBUTES, parts, strict=True)) for parts in split]


def load_encoders(work_dir: Path) -> TextEncoders:
    """The trained encoders, frozen."""
    tokenizer = CLIPTokenizer.from_pretrained(work_dir / "tokenizer")
    first = CLIPTextModel.from_pretrained(work_dir / "text_encoder", use_safetensors=True)
    second = CLIPTextModelWithProjection.from_pretrained(
        work_dir / "text_encoder_2", use_safetensors=True
    )
    return TextEncoders(tokenizer, (first, second)).requires_grad_(False).eval().to(device())


def train_text(work_dir: Path, steps: int = STEPS) -> None:
    """Train tokenizer and encoders; leaves them in work_dir, in the pipeline's folders."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer()
    text = TextEncoders(tokenizer, new_encoders(tokenizer)).to(device())
    adam = torch.optim.AdamW(text.parameters(), RATE, weight_decay=0.01)
    checkpoints = Checkpoints(work_dir / "text.pt", {"text": text, "adam": adam})
    progress = Progress("text", steps)
    for step in checkpoints.steps(steps):
        rng = random.Random(seed_step("text", step))
        scenes = list(_random_scenes(rng, BATCH))
        ids = text.tokenize([caption(s, rng, noise=0.35) for s in scenes], full=step % 4 == 0)
        wanted = {name: classes.to(device()) for name, classes in labels(scenes).items()}
        guesses = text.guesses(ids)
        losses = [F.cross_entropy(g[name], wanted[name]) for g in guesses for name in wanted]
        loss = torch.stack(losses).sum()
        adam.param_groups[0]["lr"] = rate_at(step, steps, RATE)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        right = {n: (guesses[2][n].argmax(-1) == wanted[n]).float().mean() for n in wanted}
        progress.add(step, loss=loss, **right)
    tokenizer.save_pretrained(work_dir / "tokenizer")
    text.first.save_pretrained(work_dir / "text_encoder")
    text.second.save_pretrained(work_dir / "text_encoder_2")


def _random_scenes(rng: random.Random, count: int) -> Iterator[Scene]:
    for _ in range(count):
        yield draw_scene(rng.choice(SEEN), rng)
