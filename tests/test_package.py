"""The package as a whole: public names, metadata that agree with one another, a file that a stranger can install."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import mpc_lite

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it there

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}  # for processes that start elsewhere
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_public_names_are_what_they_say():
    for name in mpc_lite.__all__:
        assert getattr(mpc_lite, name) is not None
    from mpc_lite.evaluation.evaluate import table_rows

    assert callable(table_rows) and callable(mpc_lite.evaluate) and mpc_lite.evaluate.__name__ == "evaluate"
    with pytest.raises(AttributeError, match="evaluator"):
        _ = mpc_lite.evaluator


def test_help_does_not_wait_for_torch():
    code = "import sys, mpc_lite, mpc_lite.cli; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.slow
def test_predict_imports_only_what_it_needs(tmp_path):
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "photo.png")
    heavy = ["accelerate", "matplotlib", "scipy", "skimage", "sklearn", "torchvision"]
    code = f"""
import sys
from mpc_lite.cli import main
assert main(["predict", "photo.png", "--out", "out", "--device", "cpu"]) == 0
print([name for name in {heavy} if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def bare(requirement: str) -> str:
    return re.split(r"[<>=!~ \[]", requirement.strip())[0].lower()


def test_requirements_environment_and_metadata_agree():
    lines = [x for x in (ROOT / "requirements.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert lines[-1] == "-e .[book,test]" and len(lines) == 9
    assert [x for x in lines[:-1] if x != bare(x)] == ["jupyter-book<2"]
    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["book"]
    assert {bare(x) for x in lines[:-1]} <= {bare(x) for x in declared}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert environment[-1] == {"pip": ["-r requirements.txt"]}
    assert f"python{PROJECT['requires-python']}" in environment
    assert any(x.startswith("jupyter-book") and x.endswith("<2") for x in declared)


def test_everything_installed_is_lower_bounds_only():
    for requirement in [
        *PROJECT["dependencies"],
        *(x for extra in PROJECT["optional-dependencies"].values() for x in extra),
    ]:
        assert "==" not in requirement and ">=" in requirement, requirement


# A room imports from rooms before it in this list and from the ground floor, the files in mpc_lite/ itself.
ROOMS = [
    "recipes",
    "forgeries",
    "data",
    "network",
    "contrast",
    "inference",
    "evaluation",
    "training",
    "neighbours",
    "cost",
    "figures",
    "reproduce",
    "cli",
]


def imports() -> dict[str, set[str]]:
    """What each module imports of the package, inside functions too: {"data.stream": {"errors", …}, …}."""
    package = ROOT / "mpc_lite"
    names = {
        ".".join(p.relative_to(package).with_suffix("").parts).removesuffix(".__init__"): p
        for p in package.rglob("*.py")
    }
    names["mpc_lite"] = names.pop("__init__")
    edges: dict[str, set[str]] = {}
    for name, path in names.items():
        used = edges[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mpc_lite":
                home = node.module.removeprefix("mpc_lite").lstrip(".")
                inner = {f"{home}.{a.name}".lstrip(".") for a in node.names}
                used |= {i if i in names else home or "mpc_lite" for i in inner}
            elif isinstance(node, ast.Import):
                used |= {a.name.removeprefix("mpc_lite.") for a in node.names if a.name.startswith("mpc_lite.")}
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name}: relative imports hide the room"
    assert all(used <= set(names) for used in edges.values())
    return edges


def room(module: str) -> str:
    return module.split(".")[0] if module.split(".")[0] in ROOMS else "ground floor"


def test_rooms_import_upwards_only():
    order = ["ground floor", *ROOMS]
    late = [
        (name, other)
        for name, used in imports().items()
        for other in used
        if order.index(room(other)) > order.index(room(name))
    ]
    assert not late, late
    folders = {p.parent.relative_to(ROOT / "mpc_lite").parts[0] for p in (ROOT / "mpc_lite").glob("*/**/*.py")}
    assert folders <= set(ROOMS), "a folder of the package that is no room"


def test_no_cycle_inside_a_room():
    edges = {name: {o for o in used if room(o) == room(name) and o != name} for name, used in imports().items()}
    while free := [name for name, used in edges.items() if not used & set(edges)]:
        for name in free:
            del edges[name]
    assert not edges, f"these import one another in a circle: {edges}"


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names_used_elsewhere(source: str) -> list[str]:
    """Names with an underscore that a file takes from another module of ours: imported, as an attribute, patched."""
    tree = ast.parse(source)
    ours, used = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            ours |= {a.asname or a.name for a in node.names if a.name == a.name.lower()}
            used += [f"{node.module}.{a.name}" for a in node.names if private(a.name)]
        elif isinstance(node, ast.Import):
            ours |= {a.asname or a.name for a in node.names if a.name.split(".")[0] in OURS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and ast.unparse(node.value) in ours:
            used.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "setattr" and node.args:
            target, *name = (a.value if isinstance(a, ast.Constant) else a for a in node.args[:2])
            if isinstance(target, str) and target.split(".")[0] in OURS and private(target.rpartition(".")[2]):
                used.append(target)
            elif isinstance(target, ast.AST) and ast.unparse(target) in ours and private(str(name[0])):
                used.append(f"{ast.unparse(target)}.{name[0]}")
    return used


OURS = ("mpc_lite", "tests", "data_scripts", "book")


def test_no_module_uses_a_private_name_of_another():
    files = [path for folder in OURS for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]
    used = {str(path.relative_to(ROOT)): private_names_used_elsewhere(path.read_text()) for path in files}
    assert not {path: names for path, names in used.items() if names}


@pytest.mark.parametrize(
    "source",
    [
        "from mpc_lite.images import _BAND",
        "from mpc_lite import images as pictures\npictures._BAND",
        "import mpc_lite.images\nmpc_lite.images._BAND",
        "patch.setattr('mpc_lite.images._BAND', 1)",
        "from mpc_lite import images\npatch.setattr(images, '_BAND', 1)",
    ],
)
def test_private_names_are_noticed(source):
    assert len(private_names_used_elsewhere(source)) == 1
    assert not private_names_used_elsewhere(source.replace("_BAND", "BAND"))


def test_neighbours_are_used_from_below_only():
    """figures, reproduce and cli may know the neighbours; nobody else does."""
    users = {name for name, used in imports().items() if any(room(o) == "neighbours" for o in used)}
    assert {room(name) for name in users} <= {"neighbours", "figures", "reproduce", "cli"}


def test_the_house_stays_small():
    """At most 24 entries to look at first, 13 in a room, 300 lines in a file (hrformer is one idea of 329)."""
    package = ROOT / "mpc_lite"
    own = subprocess.run(["git", "ls-files", "mpc_lite"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    entries = {Path(p).relative_to("mpc_lite").parts[0] for p in own} or {p.name for p in package.iterdir()}
    assert len(entries - {"__pycache__"}) <= 24, sorted(entries)
    for folder in ROOMS:
        modules = [p for p in (package / folder).glob("*.py") if p.stem != "__init__"]
        assert len(modules) <= 13, (folder, len(modules))
    long = {p.name: n for p in package.rglob("*.py") if (n := p.read_text().count("\n")) > 300}
    assert set(long) <= {"hrformer.py"}, long


def quick_tests(folder: str) -> list[str]:
    """Names of the tests of a folder that are not marked slow, one by one or with their file."""
    names = []
    for path in (ROOT / "tests" / folder).rglob("test_*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        whole = [n.value for n in body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "pytestmark"]
        if not any("mark.slow" in ast.unparse(value) for value in whole):
            tests = [n for n in body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
            names += [n.name for n in tests if "mark.slow" not in " ".join(map(ast.unparse, n.decorator_list))]
    return names


@pytest.mark.parametrize("folder", [*ROOMS, "book", "data_scripts"])
def test_the_fast_tier_touches_every_room(folder):
    assert len(quick_tests(folder)) >= 3


def test_the_room_table_names_every_module():
    table = (ROOT / "mpc_lite" / "README.md").read_text()
    assert table.count("\n") <= 40
    modules = {p.stem for p in (ROOT / "mpc_lite").rglob("*.py") if "chapters" not in p.parts} - {
        "__init__",
        "__main__",
    }
    assert not {name for name in modules if f"`{name}" not in table}


def test_habits_name_what_is_there_and_fetch_nothing():
    """make's targets and the hooks before a commit: files that exist, tools that requirements.txt installed."""
    makefile = (ROOT / "Makefile").read_text()
    assert {"fast", "test", "lint", "twins", "book", "pages", "ci"} == set(re.findall(r"^(\w+):", makefile, re.M))
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert {r["repo"] for r in repositories} == {"local"} and {hook["language"] for hook in hooks} == {"system"}
    called = makefile + " ".join(hook["entry"] for hook in hooks)
    assert all((ROOT / path).is_file() for path in re.findall(r"(?<![\w*])(?:tests|book)/[\w/]+\.py", called))
    assert {"ruff check", "ruff format", "make_twins.py --check"} <= {
        w for w in re.findall(r"ruff \w+|make_twins.py --check", called)
    }


def test_recipes_know_every_protocol():
    from mpc_lite.evaluation.protocols import PROTOCOLS
    from mpc_lite.recipes.keys import PROTOCOL_NAMES

    assert set(PROTOCOL_NAMES) == set(PROTOCOLS)
