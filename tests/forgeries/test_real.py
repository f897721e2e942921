"""Real-camera forgeries: purity, splits, masks, the null splice, the cache, and what bad lists are answered with.

The photographs of these tests are dead leaves saved as JPEG files: no file of anybody's is needed.
"""

import csv
import hashlib
import io
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mpc_lite.data.manifest import check, read_manifest
from mpc_lite.data.stream import Forgeries, datasets
from mpc_lite.errors import InputError
from mpc_lite.forgeries import photographs as module
from mpc_lite.forgeries.lives import Life, Save, cut, draw_whole, jpeg, live, sloped_tables
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.forgeries.photographs import Photographs, read_photograph_list
from mpc_lite.forgeries.real import GRID, forge_real, real_ranges
from mpc_lite.forgeries.regions import moved, object_region, paste, plain_region, removed
from mpc_lite.forgeries.scenes import SHARES, dead_leaves, hash_share
from mpc_lite.forgeries.synth import forge
from mpc_lite.network.weights import PRETRAINED
from mpc_lite.recipes.load import load_recipe

ROOT = Path(__file__).parents[2]
SPLITS = ("train", "validation", "test")
HEADER = "image,source,camera,licence"


def write_list(folder, rows, header=HEADER, name="photos.csv"):
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(path)


def names_of(pattern: str, counts: tuple[int, int, int]) -> list[str]:
    """The first names that the hash gives so many of to train, validation and test."""
    left, names = dict(zip(SPLITS, counts, strict=True)), []
    for number in range(1000):
        name = pattern.format(number)
        split = next(s for s in SPLITS if SHARES[s][0] <= hash_share(name) < SHARES[s][1])
        if left[split]:
            left[split] -= 1
            names.append(name)
    return names


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """34 photographs: `phones` of many cameras, and the flights `drone…`, four frames of one camera each."""
    out = tmp_path_factory.mktemp("photographs")
    rows = [f"{name},phones,{name},CC0-1.0" for name in names_of("phone{}.jpg", (10, 4, 4))]
    rows += [f"{d}-{i}.jpg,{d},{d},CC0-1.0" for d in names_of("drone{}", (2, 1, 1)) for i in range(4)]
    for number, row in enumerate(rows):
        picture = dead_leaves(number, 300)[:, : 300 - 8 * (number % 3)]
        # A camera has its tables: frames of one flight share theirs.
        camera = number if number < 18 else (number - 18) // 4
        Image.fromarray(picture).save(out / row.partition(",")[0], quality=86 + camera % 9, subsampling=camera % 2 * 2)
    return out, rows


@pytest.fixture(scope="module")
def listed(folder):
    return write_list(*folder)


@pytest.fixture(scope="module")
def photographs(listed):
    return Photographs("train", [listed])


def digest(*made) -> str:
    return hashlib.sha256(b"".join(f.image.tobytes() + f.mask.tobytes() + (f.jpeg or b"") for f in made)).hexdigest()


@pytest.mark.slow
def test_pure_function_of_seed_and_index(photographs, listed):
    indices = (0, 3, 7, 11)
    ours = [forge_real("train", 5, i, photographs, 64) for i in indices]
    module.windows.clear()
    again = Photographs("train", [listed])
    back = [forge_real("train", 5, i, again, 64) for i in reversed(indices)][::-1]
    assert digest(*ours) == digest(*back)
    assert digest(*ours) != digest(*(forge_real("train", 6, i, photographs, 64) for i in indices))
    code = (
        "from mpc_lite.forgeries.photographs import Photographs; from mpc_lite.forgeries.real import forge_real\n"
        f"import hashlib; p = Photographs('train', [{listed!r}])\n"
        "m = [forge_real('train', 5, i, p, 64) for i in (0, 3, 7, 11)]\n"
        "print(hashlib.sha256(b''.join(f.image.tobytes() + f.mask.tobytes() + (f.jpeg or b'') for f in m)).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(*ours)


def test_splits_share_no_photograph_no_flight_no_quality(listed, folder):
    items = {split: Photographs(split, [listed]).items for split in SPLITS}
    assert sum(map(len, items.values())) == len(folder[1])
    for a, b in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not {x.path for x in items[a]} & {x.path for x in items[b]}
        flights = [{x.source for x in items[s] if x.source.startswith("drone")} for s in (a, b)]
        assert not flights[0] & flights[1]
        assert not set(real_ranges()[a]["quality"]) & set(real_ranges()[b]["quality"])
    assert len({x.source for split in SPLITS for x in items[split]}) == 5


def test_ranges_agree_but_for_qualities_and_shares_sum_to_one():
    first, *rest = ({k: v for k, v in real_ranges()[s].items() if k != "quality"} for s in SPLITS)
    assert all(other == first for other in rest)
    for key, value in first.items():
        if isinstance(value, dict):
            assert sum(value.values()) == pytest.approx(1), key


def test_weights_hold_a_flight_back_and_can_be_set(listed):
    many = Photographs("train", [listed])
    rng = np.random.default_rng(0)
    drawn = [many.items[many.draw(rng)].source for _ in range(4000)]
    count = {s: sum(x.source == s for x in many.items) for s in {x.source for x in many.items}}
    flight = next(s for s in count if s.startswith("drone"))
    expected = np.sqrt(count[flight]) / 2 / np.sqrt(count["phones"])
    assert drawn.count(flight) / drawn.count("phones") == pytest.approx(expected, rel=0.25)
    without = Photographs("train", [listed], weights={"phones": 0})
    assert all(without.items[without.draw(rng)].source != "phones" for _ in range(200))
    only = Photographs("train", [listed], sources=["phones"])
    assert {x.source for x in only.items} == {"phones"}


@pytest.mark.parametrize("size", [64, 96])
def test_images_masks_and_classes(photographs, size):
    made = [forge_real("train", 1, i, photographs, size) for i in range(80)]
    for f in made:
        assert f.image.shape == (size, size, 3) and f.image.dtype == np.uint8
        assert f.mask.shape == (size, size) and f.mask.dtype == np.uint8 and set(np.unique(f.mask)) <= {0, 1}
        assert bool(f.mask.any()) == (f.kind != "authentic")
    authentic = sum(f.kind == "authentic" for f in made)
    assert 25 <= authentic <= 55
    assert {f.kind for f in made} == {"splice", "copy_move", "removal", "authentic"}
    shares = [f.mask.mean() for f in made if f.kind == "splice"]
    assert max(shares) <= 0.5


@pytest.mark.parametrize("blend", ["hard", "feathered", "matched", "poisson"])
def test_a_paste_changes_what_its_mask_says(blend):
    host, donor = dead_leaves(1, 96), dead_leaves(2, 96)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        region = object_region(donor, rng, (0.05, 0.3)) if seed % 2 else plain_region(96, rng, (0.05, 0.3))
        image, mask = paste(host, donor, region, blend, rng)
        changed = (image != host).any(2)
        reach = {"hard": 1, "poisson": 1, "feathered": 19, "matched": 19}[blend]
        near = cv2.dilate(mask, np.ones((reach, reach), np.uint8)).astype(bool)
        assert not (changed & ~near).any()
        assert changed[mask == 1].mean() > 0.9
        assert (mask <= region).all() and mask.sum() > 0.5 * region.sum()


def test_hard_paste_shows_the_donor():
    host, donor = dead_leaves(1, 64), dead_leaves(2, 64)
    mask = plain_region(64, np.random.default_rng(0), (0.2, 0.2))
    image, _ = paste(host, donor, mask, "hard", np.random.default_rng(0))
    assert (image[mask == 1] == donor[mask == 1]).all() and (image[mask == 0] == host[mask == 0]).all()


@pytest.mark.slow
def test_moved_brings_another_place_and_removed_forgets_the_region():
    image = dead_leaves(3, 96)
    mask = np.zeros((96, 96), np.uint8)
    mask[10:30, 60:80] = 1
    for seed in range(12):
        rng = np.random.default_rng(seed)
        piece = moved(image, mask, rng, scale=(1, 1))[10:30, 60:80]
        places = [image[r : r + 20, c : c + 20] for r in range(77) for c in range(77)]
        assert any((piece == p).all() or (piece == p[:, ::-1]).all() for p in places)
    marked = image.copy()
    marked[12:28, 62:78] = [255, 0, 255]
    assert not (removed(marked, mask, np.random.default_rng(0))[14:26, 64:76] == [255, 0, 255]).all(2).any()


def test_object_region_follows_an_edge():
    """Two halves of different colour: the region keeps to one of them."""
    image = np.full((96, 96, 3), 40, np.uint8)
    image[:, 48:] = [200, 180, 90]
    image = image + np.random.default_rng(0).integers(0, 6, image.shape, dtype=np.uint8)
    for seed in range(10):
        mask = object_region(image, np.random.default_rng(seed), (0.1, 0.3))
        halves = mask[:, :46].sum(), mask[:, 50:].sum()
        assert min(halves) < 0.06 * max(halves)


def test_null_splice_leaves_no_trace_of_grid_or_scale(photographs):
    """Host and donor of one group, one life: where the camera's table was coarse, both lie on one 8×8 grid."""
    for index in range(30):
        made = forge_real("train", 2, index, photographs, 64, null=True)
        assert made.kind == "splice" and made.mask.any() and made.cameras[0] == made.cameras[1]
    rng = np.random.default_rng(0)
    for k, item in enumerate(photographs.items):
        sibling = photographs.items[photographs.sibling(k, rng)]
        assert sibling.group == item.group
        assert item.source.startswith("drone") or sibling is item  # phones: one camera each, so the photograph itself


def test_pieces_of_one_life_lie_on_one_grid():
    """A null splice's life is aligned: cut anywhere, block borders of the file fall on the same pixels."""
    flat = np.zeros((200, 200, 3), np.uint8)
    flat[::8], flat[:, ::8] = 255, 255
    life = Life(1.0, "bicubic", None, (), (3, 5), True)
    pieces = [live(cut(flat, life, 64 + GRID, place), life, 64, None) for place in ((0, 0), (0.4, 0.7), (0.99, 0.2))]
    assert all((p == pieces[0]).all() for p in pieces[1:])
    assert (pieces[0][5] == 255).all() and (pieces[0][:, 3] == 255).all()


def test_saves_use_their_tables_and_screenshots_none():
    image = dead_leaves(4, 64)
    tables = sloped_tables(6, 3)
    with_tables = jpeg(image, Save(90, tables, 2))[1]
    with Image.open(io.BytesIO(with_tables)) as opened:
        assert sorted(tuple(t) for t in opened.quantization.values()) == sorted(tables)
    rng = np.random.default_rng(0)
    wholes = [draw_whole(rng, real_ranges()["train"], [], 64) for _ in range(200)]
    assert all(not w.saves and w.resample in ("nearest", "bilinear_plain") for w in wholes if w.kind == "screenshot")
    assert {len(w.saves) for w in wholes} == {0, 1, 2}


def test_cache_is_bounded(photographs, monkeypatch):
    assert module.CACHE_BYTES == 512 * 2**20
    module.windows.clear()
    monkeypatch.setattr(module, "held_bytes", 0)
    monkeypatch.setattr(module, "CACHE_BYTES", 2_000_000)
    for k in range(len(photographs)):
        photographs.window(k, 0, 72)
        assert module.cached_bytes() == sum(w.nbytes for w in module.windows.values()) <= 2_000_000
    assert 1 < len(module.windows) < len(photographs)
    module.windows.clear()
    monkeypatch.setattr(module, "held_bytes", 0)


# --- the training stream ----------------------------------------------------------------------------------------------


def recipe(listed, share=0.5, **more):
    keys = {"data.real": {"lists": [listed], "share": share}, "data.scenes": ["dead_leaves"], "data.size": 64}
    return load_recipe("quickstart", overrides={**keys, "data.authentic_share": 0.5, **more})


def test_stream_mixes_both_worlds_at_its_share(listed):
    stream = Stream("train", 0, recipe(listed, 0.3).data, 64)
    assert np.mean([stream.is_real(i) for i in range(2000)]) == pytest.approx(0.3, abs=0.04)
    for index in range(6):
        made = stream(index, 64)
        if stream.is_real(index):
            assert digest(made) == digest(forge_real("train", 0, index, stream.photographs, 64, 0.5))
        else:
            assert digest(made) == digest(forge("train", 0, index, stream.scenes, 64, 0.5))
    alone = Stream("train", 0, recipe(listed, 1.0).data, 64)
    assert alone.scenes is None and all(alone.is_real(i) for i in range(20))


def test_without_the_key_nothing_changes():
    plain = load_recipe("quickstart", overrides={"data.scenes": ["dead_leaves"], "data.size": 64})
    assert "real" not in plain.as_dict()["data"]
    data = Forgeries(plain, "train")
    for position in (0, 5):
        expected = forge("train", 0, position, data.stream.scenes, 64, 0.2)
        assert torch.equal(data[position]["image"], torch.from_numpy(expected.image.transpose(2, 0, 1).copy()))


@pytest.mark.slow
def test_sets_of_a_recipe_and_a_written_test_set(listed, tmp_path):
    mixed = recipe(listed)
    train, validation, count = datasets(mixed)
    assert count == mixed.data.validation_images
    for data in (train, validation):
        item = data[1]
        assert item["image"].shape == (3, 64, 64) and item["mask"].shape == (64, 64)
    rows = Stream("test", 0, mixed.data, 64).write(tmp_path / "test", 24, 64)
    samples = read_manifest(rows)
    assert len(samples) == 24 and not check(rows)
    assert {s.source.partition("-")[0] for s in samples} == {"photos", "generated"}
    null = Stream("test", 0, recipe(listed, 1.0).data, 64).write(tmp_path / "null", 4, 64, null=True)
    assert {s.source for s in read_manifest(null)} == {"photos-null_splice"}


def test_recipe_lite2_is_complete_and_reads_only_free_sources():
    lite2 = load_recipe("lite2")
    assert lite2.data.authentic_share == 0.5 and lite2.finetune.alpha == 0.5 and lite2.model.size == "nano"
    assert not {"bsds500", "kodak"} & set(lite2.data.real.sources)
    assert load_recipe("lite2", "smoke").data.real is None


def test_photographs_that_ask_for_credit_have_it(data_dir):
    """Of those that lite2 is trained on: repository and licence, in NOTICE and in the model card."""
    real = load_recipe("lite2").data.real
    trained = {item.path.name for item in Photographs("train", real.lists, real.sources).items}
    with open(data_dir / "open.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["image"].rpartition("/")[2] in trained]
    asked = {(row["repository"].partition("@")[0], row["licence"]) for row in rows if "BY" in row["licence"]}
    assert len(asked) > 1
    for text in (ROOT / "NOTICE", PRETRAINED / "lite2.md"):
        words = text.read_text(encoding="utf-8")
        for repository, licence in asked:
            assert repository in words and licence.replace("-", " ") in words, (text.name, repository)


def test_lite2_sees_both_worlds_of_the_real_lists(data_dir):
    stream = Stream("validation", 0, load_recipe("lite2").data, 128)
    assert {"bsds500", "kodak"}.isdisjoint(x.source for x in stream.photographs.items)
    kinds = {stream(i, 128).kind for i in range(24) if stream.is_real(i)}
    assert len(kinds) > 1


# --- bad input --------------------------------------------------------------------------------------------------------


def fails(path, *words, **how):
    with pytest.raises(InputError) as error:
        Photographs(how.pop("split", "train"), [path], **how)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_lists_that_cannot_be_used(folder, tmp_path):
    out, rows = folder
    fails(str(tmp_path / "none.csv"), "cannot be read")
    fails("$MPC_LITE_NOWHERE/open.csv", "MPC_LITE_NOWHERE", "not set")
    fails(write_list(out, rows, "picture,origin,camera,licence", "columns.csv"), "no column image and no source")
    fails(write_list(out, [], name="empty.csv"), "no photograph")
    fails(write_list(out, ["gone.jpg,a,b,CC0", "lost.jpg,a,b,CC0", *rows], name="gone.csv"), "2 of 36", "gone.jpg")
    text = names_of("text{}.jpg", (1, 0, 0))[0]
    (out / text).write_text("no image")
    fails(write_list(out, [f"{text},a,,CC0", *rows], name="text.csv"), text, "cannot be read as an image")
    for label in ("label", "Label", " LABEL"):
        forged = write_list(out, [f"{row},1" for row in rows], f"{HEADER},{label}", "forged.csv")
        fails(forged, "34 rows have another label than 0 (authentic), the first '1'")
    wide = write_list(out, [f"{row},," for row in rows], HEADER + ",,", "wide.csv")  # columns that were used once
    assert len(read_photograph_list(Path(wide))) == len(rows)
    Path(wide).write_text(Path(wide).read_text().replace("\n", "\n , ,,\n\n"))  # a spreadsheet's empty rows
    assert len(read_photograph_list(Path(wide))) == len(rows)
    Path(wide).write_text("\n,,,\n" + Path(wide).read_text())
    assert len(read_photograph_list(Path(wide))) == len(rows)
    twice = write_list(out, [f"{row},{row.split(',')[0]}" for row in rows], HEADER + ",Image", "twice.csv")
    fails(twice, "the columns image occur twice, in any case of letters")
    fails(write_list(out, rows), "phonse", "did you mean 'phones'", sources=["phonse"])
    fails(write_list(out, rows), "drone999", weights={"drone999": 1.0})
    fails(write_list(out, rows), "weights", sources=["phones"], weights={"phones": 0.0})
    fails(write_list(out, rows), "unknown", split="middle")


def test_paths_are_those_of_a_manifest(folder, listed):
    out, rows = folder
    odd = [f" ..\\{out.name}\\{rows[0]} ", *(f" {row.replace(',', ' , ')} " for row in rows[1:])]
    read = Photographs("train", [write_list(out, odd, " image , source,camera ,licence", "odd.csv")])
    plain = Photographs("train", [listed])
    assert [(x.path.resolve(), x.source) for x in read.items] == [(x.path.resolve(), x.source) for x in plain.items]


def test_one_photograph_is_too_few(folder):
    out, rows = folder
    path = write_list(out, rows[:1], name="one.csv")
    messages = []
    for split in SPLITS:
        with pytest.raises(InputError, match="a splice needs two") as error:
            Photographs(split, [path])
        messages.append(str(error.value))
    assert sum("1 of 1" in m for m in messages) == 1 and sum("0 of 1" in m for m in messages) == 2


def test_small_photographs_are_left_out_or_refused(folder, tmp_path):
    out, rows = folder
    Image.fromarray(dead_leaves(0, 60)).save(out / "small-3.jpg")
    path = write_list(out, ["small-3.jpg,phones,x,CC0", *rows], name="small.csv")
    splits = [s for s in SPLITS if "small-3.jpg" in {x.path.name for x in Photographs(s, [path], smallest=32).items}]
    with pytest.warns(UserWarning, match=r"1 of \d+ .* smaller than 136 .*small-3\.jpg, is 60×60"):
        some = Photographs(splits[0], [path])
    assert "small-3.jpg" not in {x.path.name for x in some.items}
    fails(path, "larger photographs", smallest=400)


def test_list_without_licences_says_what_that_means(folder):
    out, rows = folder
    path = write_list(out, [row.rpartition(",")[0] for row in rows], "image,source,camera", "unlicensed.csv")
    with pytest.warns(UserWarning, match="no licence column"):
        Photographs("train", [path])


def test_a_list_with_splits_says_that_they_are_not_looked_at(folder):
    """A manifest of authentic rows is such a list: those marked test would be trained on without a word."""
    out, rows = folder
    path = write_list(out, [f"{row},test" for row in rows], f"{HEADER},Split", "split.csv")
    with pytest.warns(UserWarning, match="split.csv has a column split, which is not looked at"):
        Photographs("train", [path])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an empty column says nothing
        Photographs("train", [write_list(out, [f"{row}," for row in rows], f"{HEADER},split", "empty-split.csv")])


@pytest.mark.slow
def test_grey_photographs_stay_grey_and_turn_their_partner(tmp_path):
    rows = []
    for number in range(24):
        picture = Image.fromarray(dead_leaves(number, 200))
        (picture.convert("L") if number % 2 else picture).save(tmp_path / f"{number}.jpg", quality=92)
        rows.append(f"{number}.jpg,mixed,,CC0")
    mixed = Photographs("train", [write_list(tmp_path, rows)])
    greys = []
    for index in range(40):
        made = forge_real("train", 0, index, mixed, 64, kind="splice")
        colour = made.image.max(2).astype(int) - made.image.min(2)
        inside = made.mask.astype(bool)
        # Never is one part grey where the other is coloured.
        parts = [float(colour[where].mean()) < 1 for where in (inside, ~inside)]
        assert parts[0] == parts[1], (index, parts)
        greys.append(parts[0])
    assert 20 <= sum(greys) <= 38  # three of four pairs hold a grey one


def test_a_broken_file_is_told_to_the_loop(folder):
    out, _ = folder
    broken = []
    for number in range(30):
        data = (out / "phone0.jpg").read_bytes()
        (out / f"broken-{number}.jpg").write_bytes(data[: len(data) // 3])
        broken.append(f"broken-{number}.jpg,broken,,CC0")
    data = Forgeries(recipe(write_list(out, broken, name="broken.csv"), 1.0), "train")
    assert "cannot be read as an image" in data[0] and "broken-" in data[0]
