"""The command line as a person meets it: results, exit codes, messages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from natgeo import cli
from natgeo.commands import certify as certify_verbs
from natgeo.store.writer import DiskWriter

PROJECT = """
    import jax.numpy as jnp
    import numpy as np

    WEIGHTS = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)

    def model():
        return (lambda params, x: x @ params["w"]), {"w": jnp.asarray(WEIGHTS)}

    def regressor():
        return (lambda params, x: x @ params["w"][:, 0]), {"w": jnp.asarray(WEIGHTS)}

    def function():
        return (lambda params, z: jnp.sum(params["w"][:, 0] * z[0])), model()[1]

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        return rng.standard_normal((n, 5)).astype(np.float32), rng.integers(0, 3, n)

    def train():
        return rows(40, 1)

    def targets():
        return rows(6, 2)

    def bad_labels():
        x, y = rows(10, 1)
        return x, y + 7

    def holes():
        x, y = rows(10, 1)
        x[4, 2] = np.nan
        return x, y

    def endless():
        import time
        while True:
            time.sleep(0.05)
            yield rows(64, 1)

    def restless():
        from pathlib import Path
        for number in range(4):
            if number == 3 and not Path("calm").exists():
                raise KeyboardInterrupt
            yield rows(16, number)

    def not_a_model():
        return 3

    NUMBER = 3
"""


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    monkeypatch.setattr(sys, "argv", ["natgeo", *map(str, arguments)])
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(SystemExit) as stop:
            cli.main()
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a user's module and the stores that natgeo made from it."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "mine.py").write_text(textwrap.dedent(PROJECT))
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        for output, data, out in [
            ("margin", "train", "train"),
            ("margin", "targets", "targets"),
            ("loss", "train", "loss"),
        ]:
            words = f"featurize --model mine:model --data mine:{data} --out {out}"
            words += " --dim 8 --seed 2"  # a seed that keeps the full rank
            patch.setattr(
                sys,
                "argv",
                ["natgeo", *words.split(), "--output", output],
            )
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert stop.value.code == 0
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])
    wrong = np.zeros(40, bool)
    wrong[:5] = True
    np.save(folder / "wrong.npy", wrong)
    np.save(folder / "short.npy", wrong[:7])
    np.save(folder / "words.npy", np.array(["a"] * 40))
    np.savez(folder / "archive.npz", wrong)
    np.save(folder / "pickle.npy", np.array([{}] * 40, object), allow_pickle=True)
    (folder / "not.json").write_text("{")
    (folder / "nan.json").write_text('{"format": 1, "kind": NaN}')
    (folder / "other.json").write_text('{"format": 99, "kind": "demo"}')
    with DiskWriter(folder / "narrow") as writer:
        writer.append(np.ones((3, 2), np.float32))
        writer.close()
    return folder


@pytest.fixture
def here(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(str(project))
    return project


@pytest.mark.parametrize(
    ("model", "output"), [("regressor", "regression"), ("function", "function")]
)
def test_featurize_other_outputs(here, monkeypatch, capsys, tmp_path, model, output):
    code, out, _ = run(
        monkeypatch,
        capsys,
        *f"featurize --model mine:{model} --data mine:train --output {output}".split(),
        *f"--projector identity --json --out {tmp_path / output}".split(),
    )
    values = json.loads(out)
    assert code == 0
    assert (values["N"], values["K"]) == (40, 15)


def test_certify_prints_writes_and_draws(here, monkeypatch, capsys, tmp_path):
    record, page = tmp_path / "result.json", tmp_path / "page.html"
    code, out, _ = run(
        monkeypatch,
        capsys,
        *f"certify train --targets targets --eps 0.02 --result {record}".split(),
        *f"--report {page} --json".split(),
    )
    assert code == 0
    printed = json.loads(out)
    assert printed == json.loads(record.read_text())
    assert printed["geometry"]["N"] == 40
    assert len(printed["targets"]) == 4
    assert 0 < max(printed["curve"]["certified"]) <= 1
    assert "Content-Security-Policy" in page.read_text()

    code, out, _ = run(monkeypatch, capsys, "report", record, "--out", tmp_path / "b")
    assert code == 0
    assert (tmp_path / "b").read_text() == page.read_text()


def test_certify_agrees_with_the_api(here, monkeypatch, capsys):
    import natgeo as ng

    _, out, _ = run(
        monkeypatch,
        capsys,
        *"certify train --targets targets --ridge .1 --json".split(),
    )
    curve = json.loads(out)["curve"]
    geometry = ng.natural_geometry(ng.DiskStore("train"), ridge=0.1)
    order = ng.certify_rankings(
        geometry, ng.DiskStore("targets"), ng.threats.Wasserstein2(0.01)
    )
    want = order.curve(curve["radii"]).mean(axis=0)
    np.testing.assert_array_equal(curve["certified"], want)


def test_certify_can_sample_pairs(here, monkeypatch, capsys):
    import natgeo as ng

    command = "certify train --targets targets --ridge .1 --sample 500 --seed 3 --json"
    code, out, _ = run(monkeypatch, capsys, *command.split())
    assert code == 0
    document = json.loads(out)
    geometry = ng.natural_geometry(ng.DiskStore("train"), ridge=0.1)
    order = ng.certify_rankings(
        geometry, ng.DiskStore("targets"), ng.threats.Wasserstein2(0.01)
    )
    curve = document["curve"]
    want = order.estimate(500, seed=3, radii=curve["radii"]).fraction.mean(axis=0)
    np.testing.assert_array_equal(curve["certified"], want)
    assert "estimated from 500 pairs" in document["guarantee"]["says"]
    assert "estimated from 500 of 780 pairs, seed 3" in document["summary"][0]["note"]
    assert not document["targets"]


def test_certify_announces_what_takes_long(here, monkeypatch, capsys):
    from natgeo.geometry import kernels

    monkeypatch.setattr(kernels, "_WORTH_COMPILING", 0)
    monkeypatch.setattr(certify_verbs, "_PATIENCE_S", 0.0)
    code, _, err = run(monkeypatch, capsys, *"certify train --targets targets".split())
    assert code == 0
    assert "780 pairs: about" in err
    assert "--sample" in err


THREATS = {
    "w2": ("--eps 0.02", lambda t: t.Wasserstein2(0.02)),
    "w1": ("--eps 1e-3 --support-radius 9", lambda t: t.Wasserstein1(1e-3, 9)),
    "euclidean2": ("--eps 1e-3", lambda t: t.Euclidean2(1e-3)),
    "delete": ("--points 1", lambda t: t.Delete(1)),
    "add": ("--points 2 --support-radius 1", lambda t: t.Add(2, 1)),
    "replace": ("--points 1 --support-radius 0.5", lambda t: t.Replace(1, 0.5)),
    "winf": ("--eps 0.005", lambda t: t.WassersteinInfinity(0.005)),
    "moving": (
        "--eps 0.01 --move-target 0.01 --move-examples 0.02",
        lambda t: t.Moving(t.Wasserstein2(0.01), 0.01, 0.02),
    ),
}


@pytest.mark.parametrize("name", THREATS)
def test_certify_knows_every_threat(here, monkeypatch, capsys, tmp_path, name):
    """Ranks, the headline, the page and the certificate, as the library has them."""
    import natgeo as ng
    from natgeo.display import percent

    options, made = THREATS[name]
    page, cert = tmp_path / "page.html", tmp_path / "cert"
    command = f"certify train --targets targets --ridge .1 --threat {name} {options}"
    more = f" --show 2 --top 3 --out {cert}"
    drawn = name == "delete"  # a page takes its time, and knows two kinds of radius
    more += f" --report {page}" if drawn else ""
    code, out, _ = run(monkeypatch, capsys, *(command + more + " --json").split())
    assert code == 0
    found = json.loads(out)
    threat = made(ng.threats)
    order = ng.certify_rankings(
        ng.natural_geometry(ng.DiskStore("train"), ridge=0.1),
        ng.DiskStore("targets"),
        threat,
    )
    assert threat.describe() in found["guarantee"]["says"]
    label, value = (found["summary"][0][key] for key in ("label", "value"))
    assert label.startswith("Certified pairs " + ("at" if name == "w2" else "under"))
    assert value == percent(order.fraction.mean())
    for target in found["targets"]:
        ranks = order.ranks(target["target"])
        for row in target["proponents"]:
            assert [row["lowest"], row["highest"]] == ranks[row["index"]].tolist()
        assert (target["eps"] is not None) == (name == "w2")
    assert not drawn or "</html>" in page.read_text()
    check = ["check", cert, "--features", "train", "--targets", "targets", "--json"]
    code, out, _ = run(monkeypatch, capsys, *check)
    claims = json.loads(out)["claims"]
    assert (code, json.loads(out)["status"]) == (0, "valid")
    assert any(threat.describe() in claim["says"] for claim in claims)
    forms = {claim["form"] for claim in claims}
    assert forms == {"exact"} | (
        set() if name in ("winf", "moving") else {"pairs", "count"}
    )
    if name == "moving":
        code, out, _ = run(monkeypatch, capsys, *(command + " --sample 300").split())
        assert code == 0
        assert label in out


WRONG = {
    "--threat w3": "w3",
    "--threat w1 --eps 0.1": "needs --support-radius",
    "--threat delete": "needs --points",
    "--threat delete --points 1 --eps 0.1": "--eps 0.1 does not go with",
    "--threat delete --points -1": "points=-1",
    "--threat add --points 2": "needs --support-radius",
    "--threat moving --eps 0.1 --move-target 0.1": "needs --move-examples",
    "--threat moving --move-target nan --move-examples 1": "target=nan",
    "--points 3": "--points 3 does not go with --threat w2",
    "--threat winf --support-radius 2": "does not go with --threat winf",
    "--eps -1": "eps=-1.0",
}


@pytest.mark.parametrize("options", WRONG)
def test_certify_says_which_numbers_a_threat_takes(here, monkeypatch, capsys, options):
    command = f"certify train --targets targets {options}"
    code, out, err = run(monkeypatch, capsys, *command.split())
    assert (code, out) == (2, "")
    assert WRONG[options] in err
    assert "Traceback" not in err


def test_certify_text_explains_itself(here, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, *"certify train --targets targets".split())
    assert code == 0
    assert "certified rank" in out
    assert "sensitivity, not a certificate" in out
    assert "Nothing about retraining" in out


def test_certify_writes_a_certificate_that_check_accepts(
    here, monkeypatch, capsys, tmp_path
):
    cert = tmp_path / "cert"
    words = f"certify train --targets targets --ridge 0 --show 2 --out {cert}"
    code, out, _ = run(monkeypatch, capsys, *words.split())
    assert code == 0
    assert f"Wrote the certificate {cert}: 6 of 6 claims hold." in out

    check = ["check", cert, "--features", "train"]
    code, out, _ = run(monkeypatch, capsys, *check, "--targets", "targets", "--json")
    found = json.loads(out)
    assert (code, found["status"], found["notes"]) == (0, "valid", [])
    forms = [claim["form"] for claim in found["claims"]]
    assert forms == ["exact", "exact", "refutation", "pairs", "count", "count"]
    code, out, _ = run(monkeypatch, capsys, *check)
    assert code == 0
    assert "valid: 6 of 6 claims hold" in out
    assert "pass --targets STORE" in out

    code, out, _ = run(monkeypatch, capsys, "check", cert, "--features", "loss")
    assert code == 1
    assert out.startswith("other data: the certificate is not about these data")
    code, _, err = run(monkeypatch, capsys, *words.split())
    assert code == 4
    assert "in use" in err

    none = tmp_path / "none"
    words = f"certify train --targets targets --show 0 --out {none}"
    code, _, err = run(monkeypatch, capsys, *words.split())
    assert (code, none.exists()) == (2, False)
    assert "--show must be at least 1" in err

    file = cert / "certificate.json"
    file.write_text(file.read_text().replace('"says": "for', '"says": "\\u001b[2Jfor'))
    code, _, err = run(monkeypatch, capsys, *check)
    assert code == 2
    assert "is malformed" in err
    assert "\x1b" not in err


def test_a_certificate_with_a_ridge_refutes_nothing(
    here, monkeypatch, capsys, tmp_path
):
    cert = tmp_path / "cert"
    words = f"certify train --targets targets --show 1 --top 3 --out {cert}"
    code, out, _ = run(monkeypatch, capsys, *words.split())
    assert code == 0
    assert "3 of 3 claims hold" in out


def test_featurize_takes_the_parameters_of_a_checkpoint(
    here, monkeypatch, capsys, tmp_path
):
    import jax.numpy as jnp
    import orbax.checkpoint as ocp

    import natgeo as ng

    zeros = {"w": jnp.zeros((5, 3), jnp.float32)}
    for name, tree in (("good", zeros), ("bad", {"w": jnp.zeros((5, 2))})):
        with ocp.StandardCheckpointer() as writer:
            writer.save(tmp_path / name, tree)
    words = "featurize --model mine:model --data mine:train --projector identity"
    for name in ("good", "bad"):
        more = f"--checkpoint {tmp_path / name} --out {tmp_path / name}-store"
        code, _, err = run(monkeypatch, capsys, *words.split(), *more.split())
        assert code == {"good": 0, "bad": 3}[name]
    assert "w has shape (5, 2), not (5, 3)" in err
    # With zero weights every class has probability one third.
    weights = ng.DiskStore(tmp_path / "good-store").column("weights")
    np.testing.assert_allclose(weights, 2 / 3, rtol=1e-6)


def test_scan_with_and_without_the_truth(here, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, *"scan loss --top 5 --json".split())
    part = json.loads(out)["scan"]
    assert code == 0
    assert len(part["suspicious"]) == 5
    assert part["detectors"][0]["auroc"] is None
    code, out, _ = run(monkeypatch, capsys, *"scan loss --wrong wrong.npy".split())
    assert code == 0
    assert "AUROC" in out


def test_doctor_is_healthy_and_finds_damage(here, monkeypatch, capsys, tmp_path):
    code, out, _ = run(monkeypatch, capsys, "doctor", "train", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["healthy"] is True
    assert found["stores"][0]["shape"] == [40, 8]

    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in (here / "train").iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    shard = damaged / "features-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    code, out, _ = run(monkeypatch, capsys, "doctor", damaged)
    assert code == 4
    assert "SHA-256" in out


CERTIFY = "certify train --targets targets"
FEATURIZE = "featurize --out new --model mine:model --data mine:train"
BAD = {
    # usage: exit code 2
    "unknown verb": ("fly", 2, "No such command"),
    "unknown option": (f"{CERTIFY} --fast", 2, "--fast"),
    "no targets": ("certify train", 2, "--targets"),
    "no sample": (f"{CERTIFY} --sample 0", 2, "--sample"),
    "eps is a word": (f"{CERTIFY} --eps wide", 2, "--eps"),
    "eps is negative": (
        f"{CERTIFY} --eps -1",
        2,
        "eps=-1.0 must be finite and not neg",
    ),
    "eps is NaN": (f"{CERTIFY} --eps nan", 2, "eps=nan"),
    "ridge is negative": (f"{CERTIFY} --ridge -0.1", 2, "ridge=-0.1"),
    "ridge is NaN": (f"{CERTIFY} --ridge nan", 2, "ridge=nan"),
    "ridge is infinite": (f"{CERTIFY} --ridge inf", 2, "ridge=inf"),
    "unknown threat": (f"{CERTIFY} --threat fire", 2, "fire"),
    "show is negative": (f"{CERTIFY} --show -1", 2, "--show=-1"),
    "top is zero": (f"{CERTIFY} --top 0", 2, "--top=0"),
    "scan top is zero": ("scan loss --top 0", 2, "--top=0"),
    "store is a file": ("scan mine.py", 2, "mine.py"),
    "model without colon": (
        "featurize --model m --data mine:train --out new",
        2,
        "package.module:function",
    ),
    "model module missing": (
        "featurize --model nobody:f --data mine:train --out new",
        2,
        "no module named 'nobody'",
    ),
    "model name missing": (
        "featurize --model mine:nothing --data mine:train --out new",
        2,
        "does not exist in mine",
    ),
    "model is a number": (
        "featurize --model mine:NUMBER --data mine:train --out new",
        2,
        "is not callable",
    ),
    "model returns a number": (
        "featurize --model mine:not_a_model --data mine:train --out new",
        2,
        "must return (apply, params)",
    ),
    "dim is zero": (f"{FEATURIZE} --dim 0", 2, "dim=0"),
    "seed is negative": (f"{FEATURIZE} --seed -1", 2, "seed=-1"),
    "batch size is zero": (f"{FEATURIZE} --batch-size 0", 2, "batch_size=0"),
    "shard rows is zero": (f"{FEATURIZE} --shard-rows 0", 2, "shard_rows=0"),
    "demo seed is negative": ("demo --seed -1", 2, "--seed"),
    "report folder missing": (f"{CERTIFY} --report no/such/page.html", 2, "Make it"),
    "certificate folder missing": (f"{CERTIFY} --out no/such/cert", 2, "Make it"),
    "no certificate": ("check loss --features train", 2, "certificate.json"),
    "check without features": ("check cert", 2, "--features"),
    # data: exit code 3
    "nothing shown": (f"{CERTIFY} --show 0 --out new", 2, "--show must be at least 1"),
    "targets of another width": ("certify train --targets narrow", 3, "2 features"),
    "targets of another task": ("certify train --targets loss", 3, "belong together"),
    "labels out of range": (
        "featurize --model mine:model --data mine:bad_labels --out new",
        3,
        "3 classes",
    ),
    "NaN in the data": (
        "featurize --model mine:model --data mine:holes --out new",
        3,
        "Example 4",
    ),
    "margin features scanned": ("scan train", 3, "loss features"),
    "flags missing": ("scan loss --wrong none.npy", 3, "none.npy"),
    "flags too short": ("scan loss --wrong short.npy", 3, "(7,)"),
    "flags are words": ("scan loss --wrong words.npy", 3, "booleans"),
    "flags in an archive": ("scan loss --wrong archive.npz", 3, "archive.npz"),
    "flags are a pickle": ("scan loss --wrong pickle.npy", 3, "pickle.npy"),
    "result is not JSON": ("report not.json", 3, "not.json"),
    "result holds NaN": ("report nan.json", 3, "nan.json"),
    "result of another format": ("report other.json", 3, "format"),
    "singular without a ridge": (
        "certify narrow --targets narrow --ridge 0",
        3,
        "ridge",
    ),
    # store: exit code 4
    "certificate folder in use": (f"{CERTIFY} --out loss", 4, "in use"),
    "check against no store": ("check cert --features nowhere", 4, "No store at"),
    "no store": ("scan nowhere", 4, "No store at nowhere"),
    "store exists": (
        "featurize --model mine:model --data mine:train --out train",
        4,
        "already holds files",
    ),
}


@pytest.mark.parametrize(("words", "code", "says"), BAD.values(), ids=BAD)
def test_wrong_input_gets_one_clear_line(here, monkeypatch, capsys, words, code, says):
    found, out, err = run(monkeypatch, capsys, *words.split())
    last = err.strip().splitlines()[-1]
    assert found == code, err
    assert says in last
    assert last.startswith("natgeo: ")
    assert "Traceback" not in err
    assert "certified" not in out
    assert not (here / "new" / "manifest.json").exists()


def test_every_projector_has_its_name_here():
    from natgeo.features import projectors

    assert set(cli.PROJECTORS) == set(projectors.PROJECTORS)


def test_debug_gives_the_traceback(here, monkeypatch):
    from natgeo.errors import StoreError

    monkeypatch.setattr(sys, "argv", ["natgeo", "scan", "nowhere", "--debug"])
    with pytest.raises(StoreError, match="nowhere"):
        cli.main()


def test_hostile_words_cannot_drive_the_terminal(here, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "scan", "evil\x1b[2Jname\u202e")
    assert code == 4
    assert "\x1b" not in err
    assert "\u202e" not in err


@pytest.mark.parametrize("command", ["--help", "certify --help", "--version"])
def test_help_does_not_import_jax(command):
    script = (
        "import sys; from natgeo import cli; sys.argv = ['natgeo', *sys.argv[1:]]\n"
        "try: cli.main()\n"
        "except SystemExit as stop: code = stop.code or 0\n"
        "assert 'jax' not in sys.modules and 'matplotlib' not in sys.modules\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_an_interrupted_run_says_what_is_safe_and_is_resumed(
    here, monkeypatch, capsys, tmp_path
):
    words = "featurize --model mine:model --data mine:restless --dim 4 --batch-size 8"
    command = [*words.split(), "--shard-rows", "16", "--out"]
    store, other = tmp_path / "store", tmp_path / "other"
    (here / "calm").unlink(missing_ok=True)
    code, out, err = run(monkeypatch, capsys, *command, store)
    assert (code, out) == (130, "")
    assert f"48 examples are safe in {store}; run the same command with" in err
    assert "--resume" in err
    assert "Traceback" not in err

    code, out, _ = run(monkeypatch, capsys, "doctor", store)
    assert code == 4
    assert "is incomplete: 48 examples are safe" in out
    assert "--resume" in out
    code, _, err = run(monkeypatch, capsys, *command, store)
    assert code == 4
    assert "48 examples of it safe. Continue it with resume=True (--resume)" in err
    code, _, err = run(
        monkeypatch, capsys, *command, store, "--resume", "--dim", "5", "--seed", "1"
    )
    assert code == 4
    assert "projector.dim: the store has 4, this run has 5" in err
    assert "projector.seed: the store has 0, this run has 1" in err

    (here / "calm").touch()
    code, _, _ = run(monkeypatch, capsys, *command, other)
    assert code == 0
    for _ in range(2):  # unfinished, then complete
        code, out, _ = run(monkeypatch, capsys, *command, store, "--resume", "--json")
        assert code == 0
        assert json.loads(out)["N"] == 64
        files = {entry.name: entry.read_bytes() for entry in store.iterdir()}
        assert files == {entry.name: entry.read_bytes() for entry in other.iterdir()}
    (here / "calm").unlink()

    shard = other / "features-00001.npy"
    manifest = other / "manifest.json"
    manifest.write_text(manifest.read_text().replace(": true", ": false"))
    shard.write_bytes(shard.read_bytes()[:-1])
    code, out, _ = run(monkeypatch, capsys, "doctor", other)
    assert code == 4
    assert "truncated" in out  # a shard is safe only if it is intact


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_exits_130_and_leaves_no_false_store(here, tmp_path, number):
    store = tmp_path / "store"
    command = [sys.executable, "-c", "from natgeo.cli import main; main()"]
    words = f"featurize --model mine:model --data mine:endless --dim 4 --out {store}"
    process = subprocess.Popen(
        [*command, *words.split(), "--shard-rows", "128"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(store.glob("features-*")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "examples are safe" in err
    assert "--resume" in err
    assert "Traceback" not in err
    assert not (store / "writer.lock").exists()
    from natgeo.errors import StoreError
    from natgeo.store.disk import DiskStore

    with pytest.raises(StoreError, match="not complete"):
        DiskStore(store)
