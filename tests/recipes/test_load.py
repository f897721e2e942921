"""Recipes: what they hold, how profiles and overrides change them, and that no mistake passes in silence."""

import json
import operator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from mpc_lite.errors import InputError
from mpc_lite.files import expand, expand_all
from mpc_lite.recipes.keys import OTHER_NAMES, Recipe
from mpc_lite.recipes.load import PROFILES, load_recipe, recipe_choices, recipe_names, scalar
from mpc_lite.recipes.neighbour_keys import NEIGHBOURS
from mpc_lite.training.identity import identity


@pytest.fixture
def recipe_file(tmp_path):
    def write(content):
        path = tmp_path / "mine.yaml"
        path.write_text(
            content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False), encoding="utf-8"
        )
        return path

    return write


@pytest.mark.parametrize("name", recipe_names())
def test_every_packaged_recipe_is_valid_in_all_its_profiles(name):
    for profile in PROFILES:
        try:
            recipe = load_recipe(name, profile)
        except InputError as error:
            assert f"has no profile '{profile}'" in str(error)
            continue
        assert (recipe.name, recipe.profile) == (name, profile)
        assert recipe.description


def test_a_profile_changes_its_own_keys_and_leaves_the_others():
    lite, smoke = load_recipe("quickstart"), load_recipe("quickstart", "smoke")
    assert smoke.pretrain.steps < lite.pretrain.steps
    assert smoke.data.scenes == lite.data.scenes  # inside the same section, not named by the profile
    assert smoke.pretrain.learning_rate == lite.pretrain.learning_rate
    assert smoke.pretrain.schedule.name == "cosine" and smoke.pretrain.schedule.warmup == 1


def test_no_profile_and_lite_are_the_recipe_as_written(recipe_file):
    path = recipe_file({"seed": 5, "profiles": {"smoke": {"seed": 6}}})
    assert load_recipe(path).seed == load_recipe(path, "lite").seed == 5
    assert load_recipe(path, "smoke").seed == 6
    assert load_recipe(path).name == "mine"


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("pretrain.steps", "12", 12),
        ("pretrain.steps", "010", 10),  # eight in YAML 1.1
        ("pretrain.steps", "08", 8),
        ("pretrain.steps", "1_000", 1000),
        ("seed", "0x10", 16),
        ("seed", "0o10", 8),
        ("pretrain.learning_rate", "1_0.5", 10.5),
        ("pretrain.learning_rate", "3e-4", 3e-4),
        ("pretrain.learning_rate", "1E-3", 1e-3),
        ("pretrain.learning_rate", "1.5e3", 1.5e3),
        ("pretrain.learning_rate", "+.5", 0.5),
        ("augment.dihedral", "false", False),
        ("pretrain.max_pixels", "null", None),
        ("data.scenes", "[dead_leaves]", ["dead_leaves"]),
        ("model.size", "base", "base"),
        ("pretrain.schedule.warmup", "7", 7),
    ],
)
def test_overrides_are_read_as_people_write_them(key, text, value):
    found = load_recipe("quickstart", overrides={key: text}).as_dict()
    for part in key.split("."):
        found = found[part]
    assert found == value and type(found) is type(value)


def all_keys(model=Recipe, prefix=""):
    """Every key of a recipe -> its type."""
    keys = {}
    for name, field in model.model_fields.items():
        keys[prefix + name] = field.annotation
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys.update(all_keys(kind, f"{prefix}{name}."))
    return keys


FLOATS = [key for key, kind in all_keys().items() if kind in (float, float | None)]
AT_LEAST_HALF = ("pppc.confidence",)


@pytest.mark.parametrize("key", FLOATS)
def test_a_float_is_read_alike_in_a_file_and_behind_p(recipe_file, key):
    """YAML 1.1 reads 1e-1 as a text."""
    section, _, name = key.rpartition(".")
    start = {"adapt": {"manifest": "a.csv"}, "data": {"real": {"lists": ["a.csv"]}}}  # sections that are optional
    if section.split(".")[0] == "mscc":
        start["model"] = {"head": "mscc"}
    texts, value = ("1e-1", "1E-1", "1.0e-1", "+.1", "0.1"), 0.1
    if key in AT_LEAST_HALF:
        texts, value = ("6e-1", "6E-1", "6.0e-1", "+.6", "0.6"), 0.6
    for text in texts:
        written = {name: "VALUE"}
        for part in reversed(section.split(".")):
            written = {part: written}
        written["adapt"] = {**start["adapt"], **written.get("adapt", {})}
        written["model"] = start.get("model", {})
        data = written.setdefault("data", {})
        data["real"] = {**start["data"]["real"], **data.get("real", {})}
        in_file = load_recipe(recipe_file(yaml.safe_dump(written).replace("VALUE", text)))
        behind_p = load_recipe(recipe_file(start), overrides={key: text})
        assert operator.attrgetter(key)(in_file) == operator.attrgetter(key)(behind_p) == value


def test_what_is_no_number_stays_a_text(recipe_file):
    texts = ["1e", "e-4", "1e-4x", "1.2.3", "0x1e3g", "08e", "12ab", '"1e-4"']
    assert [scalar(text) for text in texts] == [*texts[:-1], "1e-4"]
    assert scalar("[1") == "[1" and scalar("12") == 12 and scalar("[1e-3, 2]") == [1e-3, 2]
    with pytest.raises(InputError, match='learning_rate: found "1e-4"'):
        load_recipe(recipe_file('pretrain: {learning_rate: "1e-4"}'))


@pytest.mark.parametrize(
    "name, given, stage",
    [
        ("quickstart", {}, "pretrain"),
        ("quickstart", {"finetune.encoder": "official"}, "finetune"),
        ("quickstart", {"finetune.encoder": "trained"}, "finetune"),
        ("quickstart", {"adapt": {"manifest": "a.csv", "batch": 1}}, "adapt"),
        ("mscc", {}, "mscc"),
        ("pclmix", {}, "pclmix"),
        ("borrowed", {}, "borrowed"),
        ("pppc", {"data.size": 42}, "pppc"),
    ],
)
def test_one_image_of_one_pixel_is_nothing_to_normalise(name, given, stage):
    """Of its coarsest map. torch would say so in the first step, with a traceback."""
    values = {"data.size": 32, **given}
    load_recipe(name, overrides={**values, "data.size": 64, f"{stage}.batch": 1})
    load_recipe(name, overrides={**values, f"{stage}.batch": 2}) if stage != "adapt" else None
    with pytest.raises(InputError, match=rf"{stage}\.batch 1 with data\.size (32|42) gives batch norm one value"):
        load_recipe(name, overrides={f"{stage}.batch": 1, **values})


def test_a_head_alone_may_learn_from_one_image_of_the_smallest_size():
    assert load_recipe("quickstart", overrides={"data.size": 32, "finetune.batch": 1}).finetune.encoder == "frozen"


@pytest.mark.parametrize(
    "text, value",
    [
        ("Photos #2", "Photos #2"),
        ("#2", "#2"),
        ("&a Photos", "&a Photos"),
        ("--- Photos", "--- Photos"),
        ("'Photos #2' ", "Photos #2"),
        ("[Photos #2/a.csv, '#b.csv']", ["Photos #2/a.csv", "#b.csv"]),
        ("{a: 'b #1'}", {"a": "b #1"}),
        ("Fotos\ue000 #2", "Fotos\ue000 #2"),
        ("600 # steps", "600 # steps"),
        (" nano ", "nano"),
    ],
)
def test_a_name_behind_p_is_read_whole(text, value):
    assert scalar(text) == value


def test_a_comment_behind_p_is_no_number(recipe_file):
    with pytest.raises(InputError, match='steps: found "600 # steps"'):
        load_recipe(recipe_file({}), overrides={"pretrain.steps": "600 # steps"})


def test_whole_numbers_of_a_file_are_decimal(recipe_file):
    assert load_recipe(recipe_file("pretrain: {steps: 010, batch: +3}\nseed: 0\n")).pretrain.steps == 10


@pytest.mark.parametrize(
    ("key", "how"),
    [
        ("profile", "--profile"),
        ("choice.variant", "-p variant=corrected"),
        ("choice", "-p variant=corrected"),
        ("name", "the recipe's name"),
        ("tables", "the recipe itself"),
    ],
)
def test_what_was_taken_of_a_recipe_is_no_key_to_set(key, how):
    """It would stand in the record of a run, and nothing of it would hold."""
    with pytest.raises(InputError, match=f"'{key}' is no parameter of a run: it is set by .*{how}"):
        load_recipe("protocol1", overrides={key: "paper"})


def test_an_override_wins_over_the_profile():
    assert load_recipe("quickstart", "smoke", {"pretrain.steps": 9}).pretrain.steps == 9


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("pretrain.stps", "3", "unknown key 'pretrain.stps' (did you mean 'pretrain.steps'?)"),
        ("pretrian.steps", "3", "did you mean 'pretrain"),
        ("modle", "{size: nano}", "did you mean 'model'?"),
        ("pretrain.steps", "many", 'pretrain.steps: found "many"'),
        ("pretrain.steps", "2.5", "pretrain.steps: found 2.5"),
        ("pretrain.steps", "0", "pretrain.steps: found 0"),
        ("pretrain.steps", "true", "pretrain.steps: found true"),
        ("finetune.alpha", "1.5", "finetune.alpha: found 1.5"),
        ("model.size", "huge", 'model.size: found "huge"'),
        ("data.scenes", "[]", "data.scenes: found []"),
        ("augment.dihedral", "1", "augment.dihedral: found 1"),
        ("augment.jpeg.qualty", "[50, 95]", "unknown key 'augment.jpeg.qualty' (did you mean 'augment.jpeg.quality'?)"),
        ("augment.jpeg.quality", "[0, 95]", "augment.jpeg.quality.0: found 0"),
        ("augment.jpeg.quality", "[50, 101]", "augment.jpeg.quality.1: found 101"),
        ("augment.jpeg.quality", "[50]", "augment.jpeg.quality: found [50]"),
        ("augment.jpeg.quality", "75", "augment.jpeg.quality: found 75"),
        ("augment.jpeg.quality", "[95, 50]", "the lowest and the highest, found [95, 50]; exchange them"),
        ("augment.jpeg.share", "0.0", "augment.jpeg.share: found 0.0"),
        ("augment.jpeg.share", "1.1", "augment.jpeg.share: found 1.1"),
        ("augment.jpeg", "true", "augment.jpeg: found true"),
    ],
)
def test_a_wrong_key_or_value_is_named(key, value, said):
    with pytest.raises(InputError) as error:
        load_recipe("quickstart", overrides={key: value})
    assert said in str(error.value)
    assert str(error.value).startswith("recipe quickstart:")


@pytest.mark.parametrize(
    "key, said",
    [
        ("pretrain.lr", "'pretrain.lr' (did you mean 'pretrain.learning_rate'?)"),
        ("finetune.LR", "(did you mean 'finetune.learning_rate'?)"),
        ("pretrain.schedule.lr", "(did you mean 'pretrain.learning_rate'?)"),
        ("lr", "mean 'pretrain.learning_rate' or 'finetune.learning_rate' or 'adapt.learning_rate'?)"),
        ("pretrain.wd", "(did you mean 'pretrain.weight_decay'?)"),
        ("finetune.batch_size", "(did you mean 'finetune.batch'?)"),
        ("finetune.tau", "(did you mean 'pretrain.temperature'?)"),
        ("pretrain.warmup_steps", "(did you mean 'pretrain.schedule.warmup'?)"),
        ("num-workers", "(did you mean 'data.workers'?)"),
        ("evaluate.image_size", "(did you mean 'evaluate.size'?)"),
        ("data.image_size", "(did you mean 'data.size'?)"),
        ("data.epochs", "(did you mean 'data.epoch'?)"),
        (
            "pretrain.epochs",
            "(training is counted in steps of batch × accumulate images, not in epochs: set 'pretrain.st",
        ),
    ],
)
def test_the_fields_names_of_a_key_lead_to_it(recipe_file, key, said):
    with pytest.raises(InputError) as error:
        load_recipe("quickstart", overrides={key: "1"})
    assert said in str(error.value)


def test_the_fields_names_lead_to_keys_that_exist():
    assert all(any(f".{key}".endswith(f".{end}") for key in all_keys()) for end in OTHER_NAMES.values())


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'quickstart'"):
        load_recipe("quikstart")
    with pytest.raises(InputError, match=r"no profile 'tiny'; it offers .*smoke"):
        load_recipe("quickstart", "tiny")


@pytest.mark.parametrize("content, said", [("a: [1", "not YAML"), ("- a\n- b\n", "holds list"), ("", "holds NoneType")])
def test_a_file_that_is_no_recipe_says_so(recipe_file, content, said):
    with pytest.raises(InputError, match=said):
        load_recipe(recipe_file(content))


def test_a_file_with_an_unknown_key_or_profile_says_so(recipe_file):
    with pytest.raises(InputError, match=r"unknown key 'pretrain\.epochs'"):
        load_recipe(recipe_file({"pretrain": {"epochs": 3}}))
    with pytest.raises(InputError, match="profile 'fast' is unknown"):
        load_recipe(recipe_file({"profiles": {"fast": {}}}))
    of_an_alternative = {"choices": {"size": {"small": {}, "large": {"profiles": {"smok": {"seed": 1}}}}}}
    with pytest.raises(InputError, match=r"profile 'smok' is unknown.*did you mean 'smoke'"):
        load_recipe(recipe_file(of_an_alternative))
    with pytest.raises(InputError, match=r"nowhere\.yaml does not exist"):
        load_recipe("nowhere.yaml")


def test_a_checked_recipe_cannot_be_changed():
    recipe = load_recipe("quickstart")
    with pytest.raises(ValidationError):
        recipe.seed = 3
    assert Recipe.model_validate(recipe.as_dict()) == recipe  # what is stored in checkpoints can be read again


CHOICES = {
    "seed": 1,
    "pretrain": {"steps": 10},
    "choices": {
        "variant": {
            "official": {"pretrain": {"batch": 2}, "profiles": {"smoke": {"pretrain": {"steps": 3}}}},
            "corrected": {"pretrain": {"steps": 20}},
        },
        "ablation": {"full": None, "small": {"model": {"size": "small"}}},
    },
    "profiles": {"smoke": {"pretrain": {"steps": 2, "batch": 1}}},
}


@pytest.mark.parametrize(
    "profile, overrides, steps, batch",
    [
        ("lite", {}, 10, 2),
        ("lite", {"variant": "corrected"}, 20, 4),
        ("smoke", {}, 3, 2),  # the choice stands above the profile, and what it says for the profile above both
        ("smoke", {"variant": "corrected"}, 20, 1),
        ("smoke", {"variant": "official", "pretrain.steps": "7"}, 7, 2),
    ],
)
def test_choices_stand_between_profile_and_overrides(recipe_file, profile, overrides, steps, batch):
    recipe = load_recipe(recipe_file(CHOICES), profile, overrides)
    assert (recipe.pretrain.steps, recipe.pretrain.batch) == (steps, batch)
    assert recipe.choice == {"variant": overrides.get("variant", "official"), "ablation": "full"}


def test_choices_are_independent_and_a_wrong_one_names_the_nearest(recipe_file):
    path = recipe_file(CHOICES)
    assert load_recipe(path, overrides={"ablation": "small"}).model.size == "small"
    assert recipe_choices(path) == {"variant": ["official", "corrected"], "ablation": ["full", "small"]}
    assert recipe_choices("quickstart") == {}
    with pytest.raises(InputError, match=r"variant 'oficial' is unknown.*did you mean 'official'.*official, corrected"):
        load_recipe(path, overrides={"variant": "oficial"})
    with pytest.raises(InputError, match=r"unknown key 'varient'.*did you mean 'variant'"):
        load_recipe(path, overrides={"varient": "official"})


def test_paths_of_recipes_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MPC_LITE_SETS", str(tmp_path))
    assert expand("$MPC_LITE_SETS/casia2.csv") == tmp_path / "casia2.csv"
    assert expand_all(["${MPC_LITE_SETS}/a.csv", "b.csv"]) == [tmp_path / "a.csv", Path("b.csv")]
    assert expand_all(None) == [] and expand_all("b.csv") == [Path("b.csv")]
    monkeypatch.delenv("MPC_LITE_SETS")
    with pytest.raises(InputError, match=r"MPC_LITE_SETS \(the folder of manifests.*data_scripts.*not set"):
        expand("$MPC_LITE_SETS/casia2.csv")


def test_sections_that_may_be_missing_name_their_keys(recipe_file):
    path = recipe_file({"adapt": {"manifest": "a.csv"}})
    assert load_recipe(path).adapt.encoder == "trained"
    with pytest.raises(InputError, match=r"adapt.stepz.*did you mean 'adapt.steps'"):
        load_recipe(path, overrides={"adapt.stepz": "3"})


@pytest.mark.parametrize(
    "key, value",
    [("pretrain.terms", "[]"), ("pretrain.terms", "[within_image, within_image]"), ("data.repeats", "{a: 0}")],
)
def test_lists_that_make_no_sense_are_refused(key, value):
    with pytest.raises(InputError, match=key.split(".")[1]):
        load_recipe("quickstart", overrides={key: value})


def test_a_recipe_that_extends_another_says_only_what_differs(recipe_file, tmp_path):
    recipe_file({**CHOICES, "tables": ["Table 2"], "description": "the first"})  # mine.yaml
    other = {
        "extends": str(tmp_path / "mine.yaml"),
        "choices": {"ablation": {"large": {"model": {"size": "base"}}}},
        "profiles": {"smoke": {"pretrain": {"batch": 3}}},
    }
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump(other, sort_keys=False), encoding="utf-8")
    recipe = load_recipe(path, "smoke", {"variant": "corrected", "ablation": "large"})
    assert (recipe.name, recipe.tables, recipe.description) == ("other", [], "the first")
    assert (recipe.pretrain.batch, recipe.pretrain.steps, recipe.model.size) == (3, 20, "base")
    assert recipe_choices(path)["ablation"] == ["full", "small", "large"]
    assert load_recipe(tmp_path / "mine.yaml", "smoke", {"variant": "corrected"}).pretrain.batch == 1


def test_a_file_that_a_recipe_extends_lies_beside_it(tmp_path, monkeypatch):
    base = tmp_path / "all" / "base.yaml"
    (tmp_path / "all" / "mine").mkdir(parents=True)
    base.write_text("extends: quickstart\nseed: 7\n")
    (tmp_path / "all" / "mine" / "a.yaml").write_text("extends: ../base.yaml\n")
    (tmp_path / "all" / "mine" / "b.yaml").write_text("extends: a.yaml\n")
    monkeypatch.chdir(tmp_path)
    assert load_recipe("all/mine/b.yaml").seed == load_recipe(tmp_path / "all" / "mine" / "a.yaml").seed == 7
    monkeypatch.chdir(tmp_path / "all" / "mine")
    assert load_recipe("b.yaml").seed == 7
    (tmp_path / "all" / "mine" / "base.yaml").write_text("seed: 8\n")  # of the working folder, which does not count
    assert load_recipe("b.yaml").seed == 7
    base.unlink()
    with pytest.raises(InputError, match=r"recipe file .*base\.yaml does not exist"):
        load_recipe("b.yaml")


def test_a_recipe_may_narrow_the_choices_of_the_one_it_extends(recipe_file, tmp_path):
    recipe_file(CHOICES)  # mine.yaml
    path = tmp_path / "other.yaml"

    def narrowed(**choice):
        path.write_text(yaml.safe_dump({"extends": str(tmp_path / "mine.yaml"), "choice": choice}), encoding="utf-8")
        return path

    assert load_recipe(narrowed(ablation="small")).model.size == "small"
    assert recipe_choices(path) == {"variant": ["official", "corrected"], "ablation": ["small"]}
    with pytest.raises(InputError, match="ablation 'full' is unknown; choose one of small"):
        load_recipe(path, overrides={"ablation": "full"})
    assert load_recipe(narrowed(variant=["corrected", "official"])).choice["variant"] == "corrected"
    assert load_recipe(path, overrides={"variant": "official"}).pretrain.batch == 2
    for wrong in ({"ablation": "tiny"}, {"ablatio": "small"}, {"ablation": []}, {"ablation": ["full", None]}):
        with pytest.raises(InputError, match="alternatives are"):
            load_recipe(narrowed(**wrong))


@pytest.mark.parametrize("text", ["choice: small", "choice: [small]", "choice: {ablation: {small: 1}}"])
def test_a_choice_that_is_no_table_of_alternatives_is_refused(recipe_file, tmp_path, text):
    recipe_file(CHOICES)
    path = tmp_path / "other.yaml"
    path.write_text(f"extends: {tmp_path / 'mine.yaml'}\n{text}\n", encoding="utf-8")
    with pytest.raises(InputError, match="choice"):
        load_recipe(path)


# ------------------------------------------------------------------------------------------------------- neighbours


def test_recipes_without_a_neighbour_are_what_they_were():
    """Their dict, and so the weights' bytes, and the identity of a run that began before there were such sections."""
    for name in ("quickstart", "lite", "protocol2"):
        recipe = load_recipe(name)
        assert recipe.neighbour is None and not set(NEIGHBOURS) & set(recipe.as_dict())
        assert Recipe.model_validate(recipe.as_dict()) == recipe
    assert not set(NEIGHBOURS) & set(json.loads(identity(load_recipe("quickstart")))["recipe"])
    pclmix = load_recipe("pclmix")
    assert json.loads(identity(pclmix))["recipe"]["pclmix"] == pclmix.as_dict()["pclmix"]
    assert identity(pclmix) != identity(load_recipe("pclmix", overrides={"pclmix.mix_label_rule": "splice"}))


def test_a_recipe_trains_one_neighbour_with_a_head_of_its_own():
    with pytest.raises(InputError, match="pppc and pclmix are stages of different methods; keep one"):
        load_recipe("pclmix", overrides={"pppc.steps": 3})
    with pytest.raises(InputError, match=r"mscc trains a network of model\.head mscc, found 4conv"):
        load_recipe("mscc", overrides={"model.head": "4conv"})
    with pytest.raises(InputError, match=r"pclmix trains a network of model\.head 4conv or 5conv, found context"):
        load_recipe("pclmix", overrides={"model.head": "context"})
    with pytest.raises(InputError, match=r"pclmix\.qeue.*did you mean 'pclmix\.queue'"):
        load_recipe("pclmix", overrides={"pclmix.qeue": 3})
    with pytest.raises(InputError, match="mix_label_rule"):
        load_recipe("pclmix", overrides={"pclmix.mix_label_rule": "spliced"})


@pytest.mark.parametrize("profile", ["smoke", "lite"])
def test_all_arms_of_the_comparison_have_seen_the_same_number_of_images(profile):
    seen, common = {}, []
    for arm in recipe_choices("neighbours")["arm"]:
        recipe = load_recipe("neighbours", profile, {"arm": arm})
        stages = [getattr(recipe, recipe.neighbour)] if recipe.neighbour else [recipe.pretrain, recipe.finetune]
        pair = 2 if recipe.neighbour == "pppc" else 1  # an image of each domain
        seen[arm] = sum(pair * stage.steps * stage.batch * stage.accumulate for stage in stages)
        common.append((recipe.data, recipe.augment, recipe.evaluate, recipe.model.size))
        assert all(stage.weights is None for stage in stages if hasattr(stage, "weights"))
    assert len(seen) == 9 and all(values == common[0] for values in common)
    if profile == "lite":
        assert set(seen.values()) == {2560}


def test_recipes_of_one_arm_are_that_arm():
    for name in ("mscc", "pppc", "pclmix", "borrowed-distillation", "borrowed-context", "borrowed-scales"):
        one, arm = (r.as_dict() for r in (load_recipe(name), load_recipe("neighbours", overrides={"arm": name})))
        assert {key for key in one if one[key] != arm[key]} == {"name", "description"}
    assert len(recipe_choices("borrowed")["arm"]) == 4


@pytest.mark.parametrize(
    "text", ["2024", "2024-05-01", "1e3", "012", "yes", "No", "[a]", "a: b", "- d", "&amp", "&", "#1"]
)
def test_a_folder_may_be_called_as_it_likes(text):
    """Where a key takes a text, what YAML would make of it does not matter."""
    assert load_recipe("quickstart", overrides={"data.photos": text}).data.photos == text
    assert load_recipe("quickstart", overrides={"data.photos": "null"}).data.photos is None
    assert load_recipe("quickstart", overrides={"pretrain.weights": f"'{text}'"}).pretrain.weights == text
