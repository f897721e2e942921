"""The cache of a frozen encoder's maps: the same head comes out, nothing is encoded twice, nothing stale is read."""

import json
import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from mpc_lite.data.loader import loader
from mpc_lite.data.stream import ManifestImages, datasets
from mpc_lite.errors import InputError
from mpc_lite.network.devices import choose_accelerator
from mpc_lite.network.hrformer import SIZES
from mpc_lite.network.model import MPC
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training import cached_maps as features
from mpc_lite.training.cached_maps import MAPS, MapCache, fingerprint
from mpc_lite.training.finetune import Finetuning, LocalizationStep, adapt, finetune
from mpc_lite.training.loop import Interrupted, starting_model
from mpc_lite.training.processes import Processes

pytestmark = pytest.mark.slow

STEPS, BATCH = 6, 2  # three epochs of four entries
D = SIZES["nano"].embedding


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two validation rows and three training rows of noise; one source comes twice in each epoch."""
    folder = tmp_path_factory.mktemp("set")
    lines = ["image,mask,label,source,split"]
    for i in range(5):
        pixels = np.random.default_rng(i).integers(0, 255, (50, 70, 3), dtype=np.uint8)
        mask = np.zeros((50, 70), np.uint8)
        mask[:, : 20 + 5 * i] = 255
        Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.fromarray(mask).save(folder / f"{i}_m.png")
        lines.append(f"{i}.png,{i}_m.png,1,{'twice' if i == 4 else 'once'},{'validation' if i < 2 else 'train'}")
    (folder / "m.csv").write_text("\n".join(lines))
    return folder / "m.csv"


def plan(manifest, cached=True, **changes):
    values = {
        "data.manifest": str(manifest),
        "data.repeats": {"twice": 2},
        "augment.dihedral": False,
        "finetune.cache_features": cached,
        "finetune.steps": STEPS,
        "finetune.batch": BATCH,
        "finetune.learning_rate": 1e-3,
        "finetune.validate_every": 3,
        "finetune.checkpoint_every": 1,
    }
    return load_recipe("quickstart", "smoke", {**values, **{k.replace("__", "."): v for k, v in changes.items()}})


def run(recipe, out, **more):
    return load_file(finetune(recipe, out, weights="lite-stage1", device="cpu", **more))


def losses(out):
    return [x["loss"] for x in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in x]


def kept(out):
    return sorted((out / "finetune.features").rglob("*.safetensors"))


def count_encodings(monkeypatch):
    """The numbers of images of each call of the encoder by a step, validation left out."""
    calls, encode = [], LocalizationStep.encode
    monkeypatch.setattr(LocalizationStep, "encode", lambda self, b: calls.append(len(b["mask"])) or encode(self, b))
    return calls


def stop_when(monkeypatch, out, rows):
    """Ask for a stop once so many rows are on the disk."""
    write = features.write_atomic

    def writing(path, data):
        write(path, data)
        if len(kept(out)) == rows:
            (out / "stop").touch()

    monkeypatch.setattr(features, "write_atomic", writing)


@pytest.fixture(scope="module")
def plain(manifest, tmp_path_factory):
    """Three epochs without a cache."""
    out = tmp_path_factory.mktemp("plain")
    return run(plan(manifest, cached=False), out), losses(out)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_head_is_that_of_a_run_that_encodes_in_every_step(manifest, plain, tmp_path, precision):
    ours = run(plan(manifest, finetune__precision=precision), tmp_path / "a")
    theirs, lost = plain
    if precision == "bf16":
        theirs = run(plan(manifest, False, finetune__precision=precision), tmp_path / "b")
        assert any(not torch.equal(plain[0][k], theirs[k]) for k in theirs)
        lost = losses(tmp_path / "b")
    assert [k for k in theirs if not torch.equal(ours[k], theirs[k])] == [] and losses(tmp_path / "a") == lost
    start = MPC.from_pretrained("lite-stage1").state_dict()
    assert all(torch.equal(start[k], ours[k]) for k in ours if k.startswith("encoder."))
    # The head starts from the seed; it has learnt, or the comparison would say nothing.
    start = starting_model(plan(manifest), "lite-stage1").state_dict()
    assert max((ours[k] - start[k]).abs().max() for k in ours if k.endswith("weight")) > 1e-3


def test_each_row_is_encoded_once_before_the_first_step_and_the_folder_goes_at_the_end(manifest, tmp_path, monkeypatch):
    calls, seen, forward = count_encodings(monkeypatch), [], LocalizationStep.forward

    def looking(self, batch):
        seen.append((len(calls), len(kept(tmp_path)), "image" in batch))
        return forward(self, batch)

    monkeypatch.setattr(LocalizationStep, "forward", looking)
    run(plan(manifest), tmp_path)
    assert calls == [2, 2]  # three rows, of four entries; the second batch is filled up
    assert seen == [(2, 3, False)] * STEPS
    assert not (tmp_path / "finetune.features").exists() and not (tmp_path / "finetune.state").exists()
    (tmp_path / "finetune.features").mkdir()  # as a run leaves it that was killed when all but this was done
    run(plan(manifest), tmp_path, resume=True)
    assert len(seen) == STEPS and not (tmp_path / "finetune.features").exists()


@pytest.mark.parametrize("goes_on", [True, False], ids=["with the maps", "without them"])
def test_a_stop_between_the_epochs_keeps_the_maps_and_resumes_to_the_same_weights(
    manifest, plain, tmp_path, monkeypatch, goes_on
):
    forward, steps = LocalizationStep.forward, []

    def stopping(self, batch):
        steps.append(1)
        if len(steps) == 3:
            (tmp_path / "stop").touch()
        return forward(self, batch)

    monkeypatch.setattr(LocalizationStep, "forward", stopping)
    with pytest.raises(Interrupted, match="step 3 of 6"):
        run(plan(manifest), tmp_path)
    assert len(kept(tmp_path)) == 3
    calls = count_encodings(monkeypatch)
    ours = run(plan(manifest, goes_on), tmp_path, resume=True)
    assert (calls == []) == goes_on and len(steps) == STEPS
    assert [k for k in ours if not torch.equal(ours[k], plain[0][k])] == []
    assert not (tmp_path / "finetune.features").exists()


def test_a_stop_while_filling_keeps_what_is_there(manifest, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="before its first step"):
        tmp_path.mkdir(exist_ok=True)
        stop_when(patch, tmp_path, 1)
        run(plan(manifest, finetune__batch=1), tmp_path)
    [first] = kept(tmp_path)
    written = first.stat().st_mtime_ns
    calls = count_encodings(monkeypatch)
    forward = LocalizationStep.forward
    seen = []
    monkeypatch.setattr(
        LocalizationStep, "forward", lambda s, b: seen.append(first.stat().st_mtime_ns) or forward(s, b)
    )
    run(plan(manifest, finetune__batch=1), tmp_path, resume=True)
    assert calls == [1, 1] and set(seen) == {written}


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_kill_nine_while_filling_leaves_whole_files_that_are_not_encoded_again(manifest, tmp_path, monkeypatch):
    code = (
        "import os, signal; from pathlib import Path; import tests.training.test_cached_maps as t\n"
        "write, done = os.replace, []\n"
        "def dying(a, b):\n"
        "    if 'features' in str(b):\n"
        "        done.append(1)\n"
        "        if len(done) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(a, b)\n"
        "os.replace = dying\n"
        f"t.run(t.plan({str(manifest)!r}), Path({str(tmp_path)!r}))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=env, timeout=900).returncode == -signal.SIGKILL
    assert len(kept(tmp_path)) == 2 and all(set(load_file(file)) == {*MAPS, "mask"} for file in kept(tmp_path))
    assert len(list((tmp_path / "finetune.features").rglob("*"))) == 4  # their folder, and what the third left behind
    calls = count_encodings(monkeypatch)
    run(plan(manifest), tmp_path)
    assert calls == [2] and not (tmp_path / "finetune.features").exists()


def cache_of(recipe, folder, model=None):
    model = (model or starting_model(recipe, "lite-stage1")).freeze_encoder()
    return MapCache(datasets(recipe, "finetune")[0], model.encoder, folder, "fp32"), Finetuning(model, recipe)


def fill(cache, stage, batch=2):
    return cache.fill(stage.network.encode, batch, 0, Processes(choose_accelerator("cpu", "fp32")), lambda: False)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' names are Unicode")
def test_maps_are_read_in_a_folder_whose_name_is_not_utf_8(manifest, tmp_path):
    folder = tmp_path / os.fsdecode(b"Foto\xe9")
    folder.mkdir()
    cache, stage = cache_of(plan(manifest), folder)
    assert fill(cache, stage) and set(cache[0]) == {"maps", "mask"}


def test_positions_have_the_maps_and_the_target_of_their_image(manifest, tmp_path):
    recipe = plan(manifest)
    cache, stage = cache_of(recipe, tmp_path)
    assert fill(cache, stage) and cache.epoch == 4
    positions = [list(range(p, p + 4)) for p in (0, 4, 8)]  # three epochs, each in an order of its own
    orders = []
    for ours, theirs in zip(loader(cache, positions, 0), loader(cache.images, positions, 0), strict=True):
        assert [m.shape for m in ours["maps"]] == [(4, s, s, D) for s in (16, 8, 4, 2)]
        with torch.no_grad():
            maps, target = stage.network.encode(theirs)
            assert stage.count(ours) == stage.count(theirs) > 0
            assert stage.network(ours)["total"].item() == pytest.approx(stage.network(theirs)["total"].item(), rel=1e-5)
        assert torch.equal(ours["mask"], target) and target.dtype == torch.uint8
        assert [cache.names(p) for p in positions[len(orders)]] == [
            cache.images.names(p) for p in positions[len(orders)]
        ]
        assert all(torch.allclose(a.permute(0, 3, 1, 2), b, atol=1e-5) for a, b in zip(ours["maps"], maps, strict=True))
        orders.append(ours["mask"].sum((1, 2)).tolist())
    assert len({tuple(order) for order in orders}) > 1 and len({tuple(sorted(order)) for order in orders}) == 1


def test_no_gradient_flows_towards_the_maps_and_nothing_is_transposed(manifest, tmp_path):
    cache, stage = cache_of(plan(manifest), tmp_path)
    fill(cache, stage)
    seen = []
    stage.model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stage.network(next(iter(loader(cache, [[0, 1]], 0))))["total"].backward()
    assert not seen[0].requires_grad and seen[0].is_contiguous(memory_format=torch.channels_last)


def test_a_cache_of_other_weights_size_precision_or_rows_is_not_read(manifest, tmp_path):
    recipe = plan(manifest)
    cache, stage = cache_of(recipe, tmp_path)
    images, encoder = cache.images, stage.model.encoder
    fill(cache, stage)
    other = MPC.build("nano")
    fewer = ManifestImages(recipe, "train", images.samples[:2])
    larger = ManifestImages(plan(manifest, data__size=96), "train", images.samples)
    found = [
        fingerprint(*x)
        for x in (
            (encoder, images, "fp32"),
            (other.encoder, images, "fp32"),
            (encoder, images, "bf16"),
            (encoder, fewer, "fp32"),
            (encoder, larger, "fp32"),
        )
    ]
    assert len(set(found)) == 5 and found[0].startswith(cache.folder.name)
    statistics = encoder.bn1.running_mean.clone()
    encoder.bn1.running_mean += 1e-3  # a buffer counts as well
    assert fingerprint(encoder, images, "fp32") != found[0]
    mask = next(sample.mask for sample in images.samples if sample.mask)
    earlier = mask.stat()
    os.utime(mask, ns=(earlier.st_atime_ns, earlier.st_mtime_ns + 1))  # replaced under its name
    assert fingerprint(encoder, images, "fp32") not in found
    os.utime(mask, ns=(earlier.st_atime_ns, earlier.st_mtime_ns))
    encoder.bn1.running_mean.copy_(statistics)
    again, _ = cache_of(recipe, tmp_path)
    assert again.folder == cache.folder
    anew, stage = cache_of(recipe, tmp_path, other)
    beside = [tmp_path / ".DS_Store", tmp_path / "notes", tmp_path / ("0a" * 8)]
    beside[0].touch()
    beside[1].mkdir()
    beside[2].symlink_to(beside[1])
    assert fill(anew, stage) and not cache.folder.exists() and len(list(anew.folder.iterdir())) == 3
    assert all(map(os.path.lexists, beside))
    with torch.no_grad():
        maps, _ = stage.network.encode(next(iter(loader(images, [[0]], 0))))
    assert torch.allclose(anew[0]["maps"][0], maps[0][0].permute(1, 2, 0), atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("finetune.encoder", "official", 'finetune.encoder "frozen" (found "official")'),
        ("augment.dihedral", True, "augment.dihedral false (found true)"),
        ("augment.pipeline", "official", 'augment.pipeline "none" (found "official")'),
        ("data.manifest", None, "data.manifest (found none, and generated forgeries never repeat)"),
    ],
)
def test_what_changes_from_epoch_to_epoch_is_refused_when_the_recipe_is_read(manifest, key, value, told):
    with pytest.raises(InputError) as error:
        plan(manifest, **{key: value})
    assert str(error.value).startswith("recipe quickstart: finetune.cache_features needs maps that stay the same")
    assert told in str(error.value) and str(error.value).count("found") == 1
    assert not plan(manifest, cached=False, **{key: value}).finetune.cache_features


def test_a_third_stage_may_cache_the_maps_of_its_own_images(manifest, tmp_path, monkeypatch):
    section = {"manifest": str(manifest), "steps": 2, "batch": 3, "validate_every": 2, "cache_features": True}
    with pytest.raises(InputError, match=r'adapt\.encoder "frozen" \(found "trained"\)'):
        plan(manifest, adapt=section)
    with pytest.raises(InputError, match=r"adapt\.manifest \(found none"):
        plan(manifest, adapt={**section, "encoder": "frozen", "manifest": []})
    calls = count_encodings(monkeypatch)
    adapt(plan(manifest, False, adapt={**section, "encoder": "frozen"}), tmp_path, weights="lite", device="cpu")
    assert calls == [3] and not list(tmp_path.glob("*.features"))


def test_a_bad_row_is_told_as_ever_and_the_rows_before_it_are_kept(manifest, tmp_path):
    image = manifest.parent / "4.png"
    good = image.read_bytes()
    image.write_bytes(good[:200])
    try:
        for cached in (True, False):
            with pytest.raises(InputError, match=r"^row 6 of m\.csv: ") as error:
                run(plan(manifest, cached, finetune__batch=1), tmp_path / str(cached))
            told = {*locals().get("told", ()), str(error.value)}
    finally:
        image.write_bytes(good)
    assert len(told) == 1 and len(kept(tmp_path / "True")) == 2
    run(plan(manifest, finetune__batch=1), tmp_path / "True")  # mended: it goes on


def test_too_little_space_is_told_before_anything_is_written(manifest, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    pixels = 16**2 + 8**2 + 4**2 + 2**2
    needed = 3 * (pixels * D * 4 + 16**2)
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage(0, 0, needed - 1))
    with pytest.raises(InputError, match=r"the maps of 3 images need 0\.0 GB, 0\.0 GB are free; free some space"):
        run(plan(manifest), tmp_path)
    assert kept(tmp_path) == []
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage(0, 0, needed))
    run(plan(manifest), tmp_path)


def test_a_damaged_file_is_told_and_the_checkpoint_written(manifest, tmp_path, monkeypatch):
    count, calls = Finetuning.count, []

    def damaging(self, batch):
        calls.append(1)
        if len(calls) == 2:
            for file in kept(tmp_path):
                file.write_bytes(file.read_bytes()[:100])
        return count(self, batch)

    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"cannot be read .* remove .* and resume"):
        patch.setattr(Finetuning, "count", damaging)
        run(plan(manifest, data__workers=0), tmp_path)
    assert torch.load(tmp_path / "finetune.state", weights_only=True)["step"] == 2


@pytest.mark.trust
def test_a_bit_that_is_another_is_told_and_not_learnt(manifest, tmp_path, monkeypatch):
    """safetensors keeps no checksum of its values."""
    count, calls = Finetuning.count, []

    def flipping(self, batch):
        calls.append(1)
        for file in kept(tmp_path) if len(calls) == 2 else ():
            data = bytearray(file.read_bytes())
            data[-100] ^= 1
            file.write_bytes(data)
        return count(self, batch)

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match=r"their checksum is another.* remove .* resume"),
    ):
        patch.setattr(Finetuning, "count", flipping)
        run(plan(manifest, data__workers=0), tmp_path)


@pytest.fixture
def one_thread():
    """Sums in the same order as in the processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_two_processes_share_the_filling_and_train_as_one_that_accumulates(manifest, tmp_path, one_thread):
    script = tmp_path / "two.py"
    script.write_text(
        "import json, os, sys; from pathlib import Path; import torch; torch.set_num_threads(1)\n"
        "import tests.training.test_cached_maps as t\n"
        "from mpc_lite.training.finetune import LocalizationStep\n"
        "calls, encode = [], LocalizationStep.encode\n"
        "LocalizationStep.encode = lambda self, b: calls.append(len(b['mask'])) or encode(self, b)\n"
        f"folder = Path({str(tmp_path)!r})\n"
        f"t.run(t.plan({str(manifest)!r}, finetune__steps=3, finetune__validate_every=3), folder / 'a')\n"
        "(folder / os.environ['RANK']).write_text(json.dumps(calls))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*TWO, str(script)], env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert [json.loads((tmp_path / rank).read_text()) for rank in "01"] == [[2], [2]]
    one = plan(manifest, finetune__steps=3, finetune__validate_every=3, finetune__accumulate=2)
    theirs, ours = run(one, tmp_path / "b"), load_file(tmp_path / "a" / "model.safetensors")
    learnt = [k for k in theirs if k.startswith("decoder.") and k.endswith("weight")]
    assert max((ours[k] - theirs[k]).abs().max() for k in learnt) < 1e-5
    assert not (tmp_path / "a" / "finetune.features").exists()
