"""Certificates that were tampered with are refused, with the right exit code."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import natgeo as ng
from natgeo.errors import ArgumentError
from natgeo.proof.checker import check_certificate
from tests.proof import cases

MALFORMED, REJECTED, OTHER = "malformed", "rejected", "other data"


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """An accepted certificate with everything in it, and its data."""
    folder = tmp_path_factory.mktemp("honest") / "cert"
    order = cases.rankings()
    assert cases.complete(folder, order, include_features=True).status == "valid"
    return folder, order


def outcome(folder: Path, train, targets) -> str:
    try:
        found = check_certificate(folder, train, targets)
    except ArgumentError as error:
        return MALFORMED if "is malformed" in str(error) else str(error)
    assert found.exit_code == (0 if found.status == "valid" else 1)
    return found.status


def body(change):
    """Tampering with the contents, written canonically again."""
    return lambda folder: cases.edit(folder, change)


def claim(change, place=0):
    return body(lambda b: change(b["claims"][place]))


def data(change):
    return body(lambda b: change(b["data"]))


def counted(change):
    return body(lambda b: change(b["counts"][0]))


def refuted(change):
    return body(lambda b: change(b["refutations"][0]))


def put(mapping, **values):
    mapping.update(values)


def array(name, change):
    """Tampering with an array and its hash."""

    def act(folder):
        changed = np.array(cases.load(folder, name))
        result = change(changed)
        cases.save(folder, name, changed if result is None else result)

    return act


def raw(name, change):
    """Tampering with the bytes of a file, and its hash."""

    def act(folder):
        contents = (folder / f"{name}.npy").read_bytes()
        cases.replace(folder, name, change(contents))

    return act


def text(change):
    """Tampering with the text of the JSON."""

    def act(folder):
        file = folder / "certificate.json"
        before = file.read_text()
        after = change(before)
        assert after != before
        file.write_text(after)

    return act


def flip_a_bit(folder):
    file = folder / "witnesses.npy"
    contents = bytearray(file.read_bytes())
    contents[-1] ^= 1
    file.write_bytes(contents)


def assign(place, value):
    def change(matrix):
        matrix[place] = value

    return change


def scale(factor):
    def change(matrix):
        matrix *= factor

    return change


def swap_words(b):
    first, second = b["claims"][0], b["claims"][1]
    first["says"], second["says"] = second["says"], first["says"]


def swap_pair(claimed):
    s = claimed["statement"]
    s["above"], s["below"] = s["below"], s["above"]
    t, i, j = s["target"], s["above"], s["below"]
    claimed["says"] = (
        f"for target {t}, training example {i} keeps a larger score than {j}"
    )


def other_target(claimed):
    claimed["statement"]["target"] = 1
    claimed["threat"]["eps"] = (0.2).hex()  # true of target 0, false of target 1
    claimed["says"] = claimed["says"].replace("target 0", "target 1")


def count_of(number, target=1):
    """A count with the words that go with it."""
    words = f"for target {target}, at least {number} of all 276 pairs of training "
    return {
        "target": target,
        "at_least": number,
        "says": words + "examples keep their order",
    }


def pipe(folder):
    (folder / "pairs.npy").unlink()
    os.mkfifo(folder / "pairs.npy")


def symlink(folder):
    target = folder.parent / "elsewhere.npy"
    target.write_bytes((folder / "witnesses.npy").read_bytes())
    (folder / "witnesses.npy").unlink()
    (folder / "witnesses.npy").symlink_to(target)


def symlinked_json(folder):
    target = folder.parent / "elsewhere.json"
    target.write_bytes((folder / "certificate.json").read_bytes())
    (folder / "certificate.json").unlink()
    (folder / "certificate.json").symlink_to(target)


def renamed_array(name):
    def change(b):
        b["arrays"][name] = b["arrays"].pop("witnesses")

    return body(change)


def pickled(folder):
    cases.replace(folder, "witnesses", pickle.dumps({"evil": True}))


def pickled_objects(folder):
    rows = np.empty(cases.load(folder, "witnesses").shape, object)
    rows[:] = 0.0
    cases.save(folder, "witnesses", rows, pickled=True)


def giant_header(folder):
    contents = (folder / "pairs.npy").read_bytes()
    size = len(cases.load(folder, "pairs"))
    old, new = f"({size}, 3)".encode(), b"(999999999999999999, 3)"
    # The header keeps its length: its padding pays for the longer shape.
    longer = len(new) - len(old)
    changed = contents.replace(old, new, 1)
    place = changed.index(b" " * longer + b"\n")
    cases.replace(folder, "pairs", changed[:place] + changed[place + longer :])


def giant_shape(folder):
    cases.replace(
        folder, "pairs", (folder / "pairs.npy").read_bytes(), shape=[2**31 - 1, 3]
    )


def fortran(folder):
    cases.save(folder, "witnesses", np.asfortranarray(cases.load(folder, "witnesses")))


def deep(folder):
    (folder / "certificate.json").write_text("[" * 200_000 + "]" * 200_000)


def other_rows(b):
    b["data"]["features"]["rows"] += 1


def without_array(name):
    return body(lambda b: b["arrays"].pop(name))


def swap_targets(folder):
    cases.save(folder, "targets", cases.load(folder, "targets")[::-1].copy())


def steer_the_move(folder):
    """Half the move, with the cost that it then has: it does not break the claim."""
    moves = cases.load(folder, "moves-0") / 2
    cases.save(folder, "moves-0", moves)


TAMPERED = {
    # Not the file that was written.
    "a bit of a file flipped": (flip_a_bit, MALFORMED),
    "hash of a file changed": (
        body(lambda b: put(b["arrays"]["pairs"], sha256="0" * 64)),
        MALFORMED,
    ),
    "file truncated": (raw("witnesses", lambda c: c[:-8]), MALFORMED),
    "file longer": (raw("witnesses", lambda c: c + b"\0" * 8), MALFORMED),
    "file missing": (lambda f: (f / "pairs.npy").unlink(), MALFORMED),
    "a pipe": (pipe, MALFORMED),
    "symlink": (symlink, MALFORMED),
    "symlink for the contents": (symlinked_json, MALFORMED),
    "name climbs out": (renamed_array("../../x"), MALFORMED),
    "name is absolute": (renamed_array("/etc/passwd"), MALFORMED),
    "name of nothing": (renamed_array("extra"), MALFORMED),
    "pickle as array": (pickled, MALFORMED),
    "pickled objects": (pickled_objects, MALFORMED),
    "giant header": (giant_header, MALFORMED),
    "giant shape": (giant_shape, MALFORMED),
    "Fortran order": (fortran, MALFORMED),
    "wrong dtype": (array("witnesses", lambda a: a.astype(np.float32)), MALFORMED),
    "big endian": (array("witnesses", lambda a: a.astype(">f8")), MALFORMED),
    "wrong width": (array("witnesses", lambda a: a[:, :-1].copy()), MALFORMED),
    "NaN witness": (array("witnesses", assign((0, 0), np.nan)), MALFORMED),
    "infinite whitener": (array("whitener", assign((0, 0), np.inf)), MALFORMED),
    # Not the text of the format.
    "deep JSON": (deep, MALFORMED),
    "not JSON": (text(lambda t: t[:-5]), MALFORMED),
    "more white space": (text(lambda t: t + "\n"), MALFORMED),
    "duplicate key": (
        text(lambda t: t.replace('"version": 1', '"version": 1,\n "version": 1')),
        MALFORMED,
    ),
    "version is a float": (
        text(lambda t: t.replace('"version": 1', '"version": 1.0')),
        MALFORMED,
    ),
    "NaN literal": (
        text(lambda t: t.replace('"version": 1', '"version": NaN')),
        MALFORMED,
    ),
    "newer version": (body(lambda b: put(b, version=2)), MALFORMED),
    "version is true": (body(lambda b: put(b, version=True)), MALFORMED),
    "other format": (body(lambda b: put(b, format="natgeo-store")), MALFORMED),
    "extra key": (body(lambda b: put(b, comment="x")), MALFORMED),
    "extra key in a claim": (claim(lambda c: put(c, sure=1)), MALFORMED),
    "extra key in a statement": (
        claim(lambda c: put(c["statement"], weight=2)),
        MALFORMED,
    ),
    "missing key": (body(lambda b: b.pop("bulk")), MALFORMED),
    "missing array": (without_array("whitener"), MALFORMED),
    "nothing claimed": (
        body(lambda b: put(b, claims=[], counts=[], refutations=[], bulk=None)),
        MALFORMED,
    ),
    "provenance runs code": (
        body(lambda b: put(b, provenance={"a": [1]})),
        MALFORMED,
    ),
    # Numbers that cannot be.
    "negative eps": (
        claim(lambda c: put(c["threat"], eps="-0x1.0000000000000p-7")),
        MALFORMED,
    ),
    "NaN eps": (claim(lambda c: put(c["threat"], eps="nan")), MALFORMED),
    "infinite eps": (claim(lambda c: put(c["threat"], eps="inf")), MALFORMED),
    "eps in another spelling": (
        claim(lambda c: put(c["threat"], eps="0x1p-7")),
        MALFORMED,
    ),
    "eps is a JSON number": (claim(lambda c: put(c["threat"], eps=0)), MALFORMED),
    "minus zero": (
        claim(lambda c: put(c["threat"], eps="-0x0.0p+0")),
        MALFORMED,
    ),
    "index out of range": (
        claim(lambda c: put(c["statement"], above=24)),
        MALFORMED,
    ),
    "index is true": (claim(lambda c: put(c["statement"], above=True)), MALFORMED),
    "index is negative": (claim(lambda c: put(c["statement"], above=-1)), MALFORMED),
    "witness out of range": (claim(lambda c: put(c, witness=[0, 10**6])), MALFORMED),
    "one witness": (claim(lambda c: put(c, witness=[0])), MALFORMED),
    "pair out of range": (array("pairs", assign((0, 1), 24)), MALFORMED),
    "pair of an unlisted target": (array("pairs", assign((0, 0), 3)), MALFORMED),
    "unknown statement": (
        claim(lambda c: put(c["statement"], kind="always")),
        MALFORMED,
    ),
    "unknown threat": (claim(lambda c: put(c["threat"], kind="w3")), MALFORMED),
    "unhashable kind": (claim(lambda c: put(c["statement"], kind=["w2"])), MALFORMED),
    "two empty groups": (
        claim(lambda c: put(c["statement"], above=[], below=[]), place=3),
        MALFORMED,
    ),
    "an example twice in a group": (
        claim(lambda c: put(c["statement"], above=[5, 5, 6]), place=3),
        MALFORMED,
    ),
    "words swapped": (body(swap_words), MALFORMED),
    "words made up": (claim(lambda c: put(c, says="all is well")), MALFORMED),
    "target missing": (data(lambda d: put(d, targets=None)), MALFORMED),
    "wrong n": (body(other_rows), MALFORMED),
    "features of the copy changed": (
        array("features", assign((0, 0), 0.5)),
        MALFORMED,
    ),
    "targets not those of the store": (swap_targets, MALFORMED),
    "count beyond all pairs": (counted(lambda c: put(c, **count_of(277))), MALFORMED),
    "count is negative": (counted(lambda c: put(c, **count_of(-1))), MALFORMED),
    "words of another count": (counted(lambda c: put(c, at_least=1)), MALFORMED),
    "count of a target unknown": (
        counted(lambda c: put(c, **count_of(1, target=3))),
        MALFORMED,
    ),
    "extra key in a count": (counted(lambda c: put(c, pairs=276)), MALFORMED),
    "counts are no list": (body(lambda b: put(b, counts={})), MALFORMED),
    "points move in a count": (
        counted(lambda c: put(c, threat={"kind": "winf", "eps": (0.0).hex()})),
        MALFORMED,
    ),
    "points move in the bulk": (
        body(
            lambda b: put(b["bulk"], threat={"kind": "winf", "eps": (2.0**-40).hex()})
        ),
        MALFORMED,
    ),
    "distance of targets missing": (
        claim(lambda c: c["threat"].pop("target"), place=12),
        MALFORMED,
    ),
    "targets move backwards": (
        claim(lambda c: put(c["threat"], target="-0x1p-7"), place=12),
        MALFORMED,
    ),
    # Other data.
    "other features named": (
        lambda f: (
            [(f / f"{n}.npy").unlink() for n in ("features", "weights")],
            cases.edit(
                f,
                lambda b: (
                    b["arrays"].pop("features"),
                    b["arrays"].pop("weights"),
                    put(b["data"]["features"], sha256="1" * 64),
                ),
            ),
        ),
        OTHER,
    ),
    "other targets named": (
        data(lambda d: put(d["targets"], sha256="1" * 64)),
        OTHER,
    ),
    # Claims that are false, or not proven.
    "eps of one": (
        claim(lambda c: put(c["threat"], eps=(1.0).hex())),
        REJECTED,
    ),
    "eps beyond one": (
        claim(lambda c: put(c["threat"], eps=(1.41).hex())),
        REJECTED,
    ),
    "bulk eps beyond one": (
        body(lambda b: put(b["bulk"]["threat"], eps=(1.41).hex())),
        REJECTED,
    ),
    "eps far too large": (
        claim(lambda c: put(c["threat"], eps=(0.999).hex())),
        REJECTED,
    ),
    "i and j swapped": (claim(swap_pair), REJECTED),
    "another target": (claim(other_target), REJECTED),
    "witness zeroed": (array("witnesses", assign(0, 0.0)), REJECTED),
    "witness negated": (array("witnesses", scale(-1.0)), REJECTED),
    "witness doubled": (array("witnesses", scale(2.0)), REJECTED),
    "witness huge": (array("witnesses", scale(1e200)), REJECTED),
    "witnesses of u and v swapped": (
        claim(lambda c: c["witness"].reverse()),
        REJECTED,
    ),
    "ridge larger": (data(lambda d: put(d, ridge=(0.5).hex())), REJECTED),
    "floor zero": (data(lambda d: put(d, floor=(0.0).hex())), REJECTED),
    "floor too high": (data(lambda d: put(d, floor=(50.0).hex())), REJECTED),
    "floor enormous": (data(lambda d: put(d, floor=(1e308).hex())), REJECTED),
    "support below the data": (
        claim(lambda c: put(c["threat"], support=(0.01).hex()), place=7),
        REJECTED,
    ),
    "order-1 ball too large": (
        claim(lambda c: put(c["threat"], eps=(0.5).hex()), place=7),
        REJECTED,
    ),
    "everything deleted": (
        claim(lambda c: put(c["threat"], points=24), place=8),
        REJECTED,
    ),
    "a crowd added": (
        claim(lambda c: put(c["threat"], points=10**9), place=9),
        REJECTED,
    ),
    "half replaced": (
        claim(lambda c: put(c["threat"], points=12), place=10),
        REJECTED,
    ),
    "Euclidean ball too large": (
        claim(lambda c: put(c["threat"], eps=(0.5).hex()), place=11),
        REJECTED,
    ),
    "Euclidean ball without a floor": (
        data(lambda d: put(d, floor=(1e-300).hex())),
        REJECTED,
    ),
    "targets move too far": (
        claim(lambda c: put(c["threat"], target=(3.0).hex()), place=12),
        REJECTED,
    ),
    "examples move too far": (
        claim(lambda c: put(c["threat"], examples=(3.0).hex()), place=12),
        REJECTED,
    ),
    "everything moves too far": (
        claim(lambda c: put(c["threat"], eps=(0.4).hex()), place=13),
        REJECTED,
    ),
    "a count of all pairs": (counted(lambda c: put(c, **count_of(276))), REJECTED),
    "count at a radius of one": (
        counted(lambda c: put(c["threat"], eps=(1.0).hex())),
        REJECTED,
    ),
    "count at a larger radius": (
        counted(lambda c: put(c["threat"], eps=(0.1).hex())),
        REJECTED,
    ),
    "one more than are proven": (
        counted(lambda c: put(c, **count_of(c["at_least"] + 1))),
        REJECTED,
    ),
    "floor nearly infinite": (data(lambda d: put(d, floor=(1.7e308).hex())), REJECTED),
    "move enormous": (array("moves-0", scale(1e290)), REJECTED),
    "directions enormous": (array("directions-0", scale(1e300)), REJECTED),
    "cost understated": (refuted(lambda r: put(r, radius=(1e-3).hex())), REJECTED),
    "cost understated by a little": (
        refuted(
            lambda r: put(r, radius=(float.fromhex(r["radius"]) * (1 - 1e-8)).hex())
        ),
        REJECTED,
    ),
    "move that does not flip": (steer_the_move, REJECTED),
    "move undone": (array("moves-0", scale(0.0)), REJECTED),
    "move of other examples": (array("moves-0", lambda a: a[::-1].copy()), REJECTED),
    "refuted the other way": (refuted(swap_pair), REJECTED),
    "floor of the move too high": (
        refuted(lambda r: put(r, floor=(50.0).hex())),
        REJECTED,
    ),
    "cost witness of another vector": (
        refuted(lambda r: put(r, cost_witness=[0] * len(r["cost_witness"]))),
        REJECTED,
    ),
    "one listed pair the wrong way": (
        array("pairs", lambda a: assign(-1, a[-1, [0, 2, 1]])(a)),
        REJECTED,
    ),
    "listed pair of an example with itself": (
        array("pairs", assign((7, slice(1, 3)), [4, 4])),
        REJECTED,
    ),
    "whitener scaled": (array("whitener", scale(1.5)), REJECTED),
    "whitener of nothing": (array("whitener", scale(0.0)), REJECTED),
    "whitener huge": (array("whitener", scale(1e300)), REJECTED),
    "whitener a little off": (array("whitener", assign((0, 0), 3.0)), REJECTED),
    "bulk eps larger": (
        body(lambda b: put(b["bulk"]["threat"], eps=(0.5).hex())),
        REJECTED,
    ),
    "bulk eps of one": (
        body(lambda b: put(b["bulk"]["threat"], eps=(1.0).hex())),
        REJECTED,
    ),
}


@pytest.mark.parametrize(("act", "want"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_is_refused(honest, tmp_path, act, want):
    source, order = honest
    folder = tmp_path / "cert"
    shutil.copytree(source, folder)
    act(folder)
    assert outcome(folder, order.geometry.train, order.targets) == want


def test_the_honest_one_is_accepted(honest):
    folder, order = honest
    assert outcome(folder, order.geometry.train, order.targets) == "valid"


def test_a_bit_of_the_features_makes_other_data(honest):
    folder, order = honest
    changed = np.array(order.geometry.train)
    changed[3, 1] = np.nextafter(changed[3, 1], np.float32(9))
    store = ng.MemoryStore(changed, {"weights": order.geometry.train.column("weights")})
    assert outcome(folder, store, order.targets) == OTHER


def test_a_bit_of_the_weights_makes_other_data(honest):
    folder, order = honest
    weights = np.array(order.geometry.train.column("weights"))
    weights[3] = np.nextafter(weights[3], np.float32(9))
    store = ng.MemoryStore(np.asarray(order.geometry.train), {"weights": weights})
    assert outcome(folder, store, order.targets) == OTHER


def test_without_a_folder_there_is_nothing(tmp_path, honest):
    train = honest[1].geometry.train
    for folder in (tmp_path / "none", tmp_path):
        assert outcome(folder, train, None) == MALFORMED


HOSTILE = "\x1b[2J\u202e</script>{{7*7}}=cmd"


def test_hostile_words_are_inert(honest, tmp_path):
    """Words that are not the claim's own are refused, and shown without effect."""
    from natgeo.display import visible

    source, order = honest
    folder = tmp_path / "cert"
    shutil.copytree(source, folder)
    cases.edit(folder, lambda b: put(b, provenance={HOSTILE: HOSTILE}))
    found = check_certificate(folder, order.geometry.train, order.targets)
    assert found.status == "valid"
    assert "\x1b" not in str(found) + json.dumps(found.values())
    assert "script" not in str(found)
    for change in (
        lambda b: put(b["claims"][0], says=HOSTILE),
        lambda b: put(b, **{HOSTILE: 1}),
        lambda b: put(b["claims"][0]["statement"], kind=HOSTILE),
    ):
        shutil.rmtree(folder)
        shutil.copytree(source, folder)
        cases.edit(folder, change)
        with pytest.raises(ArgumentError) as caught:
            check_certificate(folder, order.geometry.train)
        assert "\x1b" not in visible(str(caught.value))
        assert "\u202e" not in visible(str(caught.value))
