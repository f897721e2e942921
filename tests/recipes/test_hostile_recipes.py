"""Recipes as damaged editors and strangers write them: one message each, at once, with nothing expanded."""

import time

import pytest

from mpc_lite.errors import InputError
from mpc_lite.recipes.keys import Recipe
from mpc_lite.recipes.load import assignments, load_recipe, recipe_names

pytestmark = pytest.mark.trust
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)  # a page that stands for a thousand million texts; our guard counts ten thousand of them

WRONG = {
    "not UTF-8": (b"name: caf\xe9\n", "not text in UTF-8"),
    "NUL": (b"name: a\0b\n", "not YAML that a recipe can be"),
    "a key twice": (b"seed: 1\npretrain: {steps: 5}\nseed: 2\n", "'seed' is given twice, first in line 1, line 3"),
    "an inner key twice": (b"pretrain:\n  steps: 5\n  steps: 500\n", "'steps' is given twice, first in line 2, line 3"),
    "nested lists": (b"seed: " + b"[" * 5000, "nested more than 20 deep"),
    "nested tables": (b"{a: " * 5000, "nested more than 20 deep"),
    "nested, and whole": (b"seed: " + b"[" * 50 + b"]" * 50, "nested more than 20 deep"),
    "inside itself": (b"data: &a {photos: *a}\n", "nested more than 20 deep"),
    "aliases without end": (LAUGHS.encode(), "more than 10000 values"),
    "a number of 5000 digits": (b"seed: " + b"9" * 5000, "a whole number of 5000 digits, expected up to 100"),
    "a number of 4000 digits": (b"seed: " + b"9" * 4000, "a whole number of 4000 digits"),
    "such a number in hexadecimal": (b"seed: 0x" + b"f" * 4000, "a whole number of 4002 digits"),
    "a page without end": (b"#" * 100_000, "longer than 65536 bytes, expected up to 65536; shorten it"),
    "one byte too many": (b"#" * 65_537, "longer than 65536 bytes"),
    "letters of several bytes": ("# я\n".encode() * 20_000 + b"seed: 7\n", "longer than 65536 bytes"),
    "cut between two bytes": (b"##" + "я".encode() * 40_000, "longer than 65536 bytes"),
    "no such date": (b"name: 2001-13-45\n", "month must be in 1..12"),
    "an object": (
        b"name: !!python/object/apply:os.getcwd []\n",
        "the tag !!python/object/apply:os.getcwd is not for recipes, leave it out, line 1",
    ),
    "a whole number of nothing": (b"extends: quickstart\nseed: !!int\n", "the tag !!int is not for recipes.*line 2"),
    "a tagged float": (b'seed: !!float ""\n', "the tag !!float"),
    "a tagged truth": (b"seed: !!bool maybe\n", "the tag !!bool"),
    "a tagged date": (b"seed: !!timestamp foo\n", "the tag !!timestamp"),
    "a tagged table": (b"data: !!omap []\n", "the tag !!omap"),
    "a tagged key": (b"!!int : 1\n", "the tag !!int"),
    "a tag of one's own": (b"seed: !x 5\n", "the tag !x is not"),
    "base 60": (b"pretrain: {steps: 1:30}\n", 'pretrain.steps: found "1:30"; input should be a valid integer'),
    "base 60 with a point": (b"pretrain: {learning_rate: 1:30.5}\n", 'learning_rate: found "1:30.5"'),
    "an alternative that chooses": (b"choices: {a: {b: {choice: 5}}}\n", "an alternative sets choice"),
    "and for one profile": (b"choices: {a: {b: {profiles: {lite: {choice: {a: x}}}}}}\n", "an alternative sets choice"),
    "an alternative with a profile": (b"choices: {a: {b: {profile: paper}}}\n", "an alternative sets profile"),
    "a profile of another name": (b"profiles: {lite: {profile: paper}}\n", "a profile or an alternative sets profile"),
    "written for a profile": (b"profile: paper\n", "is written for the profile paper; choose it by --profile"),
    "many repeats": (
        b"data: {repeats: {" + b"".join(b"source%d: 0, " % n for n in range(800)) + b"}}\n",
        "1 to [0-9]+; found source0: 0, source1: 0, source2: 0 and 797 more$",
    ),
    "a forged line": (b'name: "x\\nerror: all is well"\nsead: 1\n', r"^recipe x\\nerror: all is well: unknown key"),
    "many wrong values": (
        b"pretrain: {" + b"".join(b"%s: %s, " % (k, b"x" * 900) for k in (b"steps", b"batch", b"learning_rate")) + b"}",
        r"pretrain.batch: found .x+… \(902 characters\)",
    ),
    "a key that is a number": (b"1: 2\n", "the key 1 is a int, expected a text"),
    "a key that is a list": (b"? [a]\n: 2\n", "unhashable"),
    "a list": (b"- a\n", "holds list"),
    "nothing": (b"", "holds NoneType"),
    "profiles are a list": (b"profiles: [smoke]\n", "profiles is no table of tables"),
    "a profile is a number": (b"profiles: {smoke: 3}\n", "profiles is no table of tables"),
    "choices are a text": (b"choices: abc\n", "choices is no table of tables"),
    "an alternative is a list": (b"choices: {a: {b: [1]}}\n", "no alternatives"),
    "its profiles are": (b"choices: {a: {b: {profiles: [1]}}}\n", "no alternatives"),
    "extends no file": (b'extends: "~\\0.yaml"\n', "does not exist"),
    "extends a list": (b"extends: [quickstart]\n", "expected the name of one recipe"),
    "an infinite rate": (b"pretrain: {steps: 1, learning_rate: .inf}\n", "pretrain.learning_rate.*finite"),
    "a rate that is none": (b"pretrain: {steps: 1, weight_decay: .nan}\n", "pretrain.weight_decay.*finite"),
    "a huge rate": (b"pretrain: {steps: 1, learning_rate: 1.0e+9}\n", "less than or equal to 10000"),
    "a huge side": (b"data: {size: 100000}\n", "data.size: found 100000; .*2048"),
    "a huge batch": (b"pretrain: {steps: 1, batch: 1000000000}\n", "pretrain.batch"),
    "steps for ever": (b"finetune: {steps: 10000000000000}\n", "finetune.steps"),
    "half a million workers": (b"data: {workers: 500000}\n", "data.workers"),
    "an unknown key of many letters": (b"k" * 900 + b": 1\n", r"k… \(900 characters\)"),
    "many alternatives": (
        b"choices: {a: {" + b"".join(b"x%d: {}, " % n for n in range(500)) + b"}}\nchoice: {a: none}\n",
        "alternatives are x0, .* and 490 more",
    ),
    "many unknown keys": (b"".join(b"k%d: 1\n" % n for n in range(500)), "and 490 more"),
}


@pytest.mark.parametrize(("data", "words"), WRONG.values(), ids=WRONG)
def test_a_recipe_that_cannot_be_is_one_message(data, words, tmp_path):
    path, start = tmp_path / "r.yaml", time.process_time()
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as refusal:
        load_recipe(path)
    assert len(str(refusal.value)) < 1000 and str(refusal.value).replace(str(path), "").isprintable()
    assert time.process_time() - start < 5


def test_a_recipe_that_extends_itself_is_told(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(f"extends: {path}\n")
    with pytest.raises(InputError, match="without end"):
        load_recipe(path)


def test_a_recipe_of_the_longest_length_is_read_to_its_end(tmp_path):
    path, end = tmp_path / "r.yaml", b"\nextends: quickstart\nseed: 7\n"
    comment = b"#" + "я".encode() * 32_000
    path.write_bytes(comment + b"#" * (65_536 - len(comment) - len(end)) + end)
    assert load_recipe(path).seed == 7


@pytest.mark.parametrize("name", ["a\0b.yaml", "a" * 5000 + ".yaml", "a" * 5000, "\udce9.yaml", ""])
def test_a_name_that_cannot_be_is_one_message(name):
    with pytest.raises(InputError) as refusal:
        load_recipe(name)
    assert str(refusal.value).isprintable() and len(str(refusal.value)) < 1000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pretrain.learning_rate", "1e5000"),
        ("pretrain.learning_rate", ".inf"),
        ("seed", "9" * 5000),
        ("seed", "[" * 5000),
        ("seed", "2001-13-45"),
        ("data.scenes", "{" * 5000),
        (".".join("a" * 5000), "1"),
        ("a" * 5000, "1"),
        ("seed", "\x1b[2J"),
        ("seed", '!!int ""'),
        ("seed", '!!float ""'),
        ("seed", "!!bool maybe"),
        ("seed", "!!timestamp foo"),
        ("seed", "=1:30"),
        ("seed", "1:30"),
        ("seed", "0b1"),
        ("seed", "\u202e"),
    ],
)
def test_a_value_on_the_command_line_too(key, value):
    with pytest.raises(InputError) as refusal:
        load_recipe("quickstart", overrides={key: value})
    assert len(str(refusal.value)) < 1000


def test_merged_sections_that_merge_others_twice_end_at_once(tmp_path):
    """PyYAML before 6.0.4 doubles them with each line: 25 lines took half a minute, and 27 a gigabyte."""
    lines = ["l0: &l0 {a: 1, b: 2}", *(f"l{n}: &l{n} {{<<: [*l{n - 1}, *l{n - 1}]}}" for n in range(1, 26))]
    (tmp_path / "r.yaml").write_text("\n".join(lines))
    start = time.process_time()
    with pytest.raises(InputError, match=r"more than 10000 values|l0"):
        load_recipe(tmp_path / "r.yaml")
    assert time.process_time() - start < 5


def test_merged_sections_are_no_keys_given_twice(tmp_path):
    """A section taken over with `<<` may be changed, and taken over again."""
    path = tmp_path / "r.yaml"
    path.write_text(
        "pretrain: &a {steps: 5, batch: 2}\nfinetune: &b {<<: *a, batch: 3}\n"
        "profiles: {smoke: {finetune: {<<: *b, steps: 1}}}\n"
    )
    recipe = load_recipe(path, "smoke")
    assert (recipe.finetune.steps, recipe.finetune.batch, recipe.pretrain.batch) == (1, 3, 2)
    for name in recipe_names():
        assert load_recipe(name, "smoke").name == name


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["k" * 3000], r"-p k+… \(3000 characters\): expected KEY=VALUE"),
        (["seed=" + "1" * 3000, "seed=" + "2" * 3000], "-p seed is given twice: 1+… .* and 2+… "),
        (["k" * 3000 + "=1"] * 2, "-p k+… .* is given twice: 1 and 1"),
    ],
)
def test_a_long_word_behind_p_is_told_in_short(pairs, words):
    with pytest.raises(InputError, match=words) as refusal:
        assignments(pairs)
    assert len(str(refusal.value)) < 400


def test_an_empty_value_is_none_that_was_forgotten(tmp_path):
    """`-p data.manifest=$UNSET` trained on forgeries that were made in place of the list."""
    for key in ("data.manifest", "data.draw", "pretrain.weights", "seed"):
        for text in ("", " "):
            with pytest.raises(InputError, match=f"-p {key}= is empty; is a variable of the shell not set"):
                load_recipe("quickstart", "smoke", {key: text})
    assert load_recipe("quickstart", "smoke", {"data.manifest": "null", "data.draw": "~"}).data.manifest is None
    path = tmp_path / "r.yaml"
    for written, key in (
        ("data: {manifest: ''}", "data.manifest"),
        ("data: {manifest: [a.csv, '']}", "data.manifest"),
        ("data: {manifest: []}", "data.manifest"),
        ("data: {manifest: a.csv, validation: []}", "data.validation"),
        ("evaluate: {weights: ''}", "evaluate.weights"),
    ):
        path.write_text(f"extends: quickstart\n{written}\n")
        with pytest.raises(InputError, match=f"recipe r: {key} is empty; write null for none"):
            load_recipe(path, "smoke")
    # What weights carry of their recipe may hold what recipes could say before.
    for stored in ({}, {"description": ""}, {"data": {"manifest": []}}):
        recipe = Recipe.model_validate({"name": "x", **stored})
        assert Recipe.model_validate(recipe.as_dict()) == recipe


@pytest.mark.parametrize("profile", [None, "smoke"])
@pytest.mark.parametrize("value", ["", "[1]", "5", "text"])
def test_a_section_that_is_no_table_is_refused_in_every_profile(tmp_path, profile, value):
    """The few values of a profile took the place of one whose lines were all commented out."""
    (tmp_path / "r.yaml").write_text(f"extends: quickstart\npretrain: {value}\n#  steps: 100\n")
    with pytest.raises(
        InputError, match=r"recipe r: pretrain: found .*; expected a table of its keys, or no such section"
    ):
        load_recipe(tmp_path / "r.yaml", profile)


def test_a_section_that_is_left_out_by_null_comes_back_with_no_profile(tmp_path):
    stage = "adapt: {manifest: a.csv, steps: 5}\nprofiles: {smoke: {adapt: {steps: 1}}}\n"
    (tmp_path / "base.yaml").write_text(f"extends: quickstart\n{stage}")
    (tmp_path / "r.yaml").write_text("extends: base.yaml\nadapt: null\n")
    assert load_recipe(tmp_path / "base.yaml", "smoke").adapt.steps == 1
    assert load_recipe(tmp_path / "r.yaml", "smoke").adapt is None


def test_a_key_with_a_dot_is_told_how_a_file_has_it(tmp_path):
    (tmp_path / "r.yaml").write_text("extends: quickstart\ndata.size: 64\n")
    with pytest.raises(
        InputError, match=r"unknown key 'data.size' \(in a file its section is a table: data: {size: …}"
    ):
        load_recipe(tmp_path / "r.yaml")
