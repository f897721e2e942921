"""The cells of a sweep, checked before anything runs: product, names, refusals, and the exit code of how they ended."""

import json
import shutil

import pytest

from mpc_lite.errors import InputError
from mpc_lite.reproduce.run import Request, inputs_digest, prepare
from mpc_lite.reproduce.sweep_runs import Cell, exit_code, plan_cells, sweep_table, sweep_values
from tests.fake_clone import write_notebook
from tests.reproduce.test_collect import finish


@pytest.fixture
def clone(tmp_path, monkeypatch):
    for name in ("quickstart", "table8"):
        write_notebook(tmp_path / "book" / "reproduce" / f"{name}.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_values_are_separated_by_commas_outside_brackets_and_quotes():
    assert sweep_values(["seed=0,1, 2"]) == {"seed": ["0", "1", "2"]}
    assert sweep_values(["a.b=[x, y],[x]", "c={k: 1, l: 2},null"]) == {
        "a.b": ["[x, y]", "[x]"],
        "c": ["{k: 1, l: 2}", "null"],
    }
    assert sweep_values(["a='x, y',\"[\""]) == {"a": ["'x, y'", '"["']}
    assert sweep_values(["a=x=1"]) == {"a": ["x=1"]}


@pytest.mark.parametrize(
    "pairs, said",
    [
        (["seed"], "expected KEY=VALUE,VALUE"),
        (["=1,2"], "expected KEY=VALUE,VALUE"),
        (["seed="], "expected KEY=VALUE,VALUE"),
        (["seed=0,,1"], "expected KEY=VALUE,VALUE"),
        (["seed=0,1,"], "expected KEY=VALUE,VALUE"),
        (["a=[x,y"], "a bracket has no partner"),
        (["a=x],y"], "a bracket has no partner"),
        (["a='x,y"], "a quote has no partner"),
        (["seed=0", "seed=1"], "given twice"),
    ],
)
def test_a_list_of_values_that_is_none_says_so(pairs, said):
    with pytest.raises(InputError, match=said):
        sweep_values(pairs)


@pytest.mark.slow
def test_cells_are_the_product_and_each_is_the_run_that_its_values_name(clone):
    given = {"pretrain.batch": "2"}
    cells = plan_cells(Request("table8", "smoke", given, {"ablation": ["full", "small"], "seed": ["0", "1"]}))
    assert [cell.label for cell in cells] == [f"ablation={a} seed={s}" for a in ("full", "small") for s in (0, 1)]
    for cell in cells:
        alone = {key: value for key, value in cell.request.given.items() if key != "seed"}
        assert cell.run.out == prepare("table8", "smoke", int(cell.request.given["seed"]), parameters=alone).out
    assert len({cell.run.out for cell in cells}) == 4
    assert cells[3].run.parameters == {"ablation": "small", "pretrain.batch": 2}
    assert [cell.label for cell in plan_cells(Request("table8", "smoke"))] == ["table8"]
    assert not (clone / "runs").exists()


@pytest.mark.parametrize(
    "given, over, said",
    [
        ({}, {"seed": ["0", "x"]}, "seed is of type int"),
        ({}, {"ablation": ["full", "smal"]}, "did you mean 'small'"),
        ({}, {"ablatoin": ["full"]}, "did you mean 'ablation'"),
        ({}, {"pretrain.steps": ["3", "0"]}, "pretrain.steps: found 0"),
        ({}, {"seed": ["1", "1"]}, "'seed=1' and 'seed=1' are the same run"),
        ({}, {"ROWS": ["1"], "pretrain.steps": ["2", " 2"]}, "are the same run"),
        ({"seed": "0"}, {"seed": ["1", "2"]}, "seed is given by -p and by --sweep"),
        ({"SEED": "0"}, {"seed": ["1", "2"]}, "SEED and seed"),
        ({}, {"OUT": ["a", "b"]}, "the run folder"),
    ],
)
def test_one_wrong_cell_refuses_the_sweep(clone, given, over, said):
    with pytest.raises(InputError) as error:
        plan_cells(Request("table8", "smoke", given, over))
    assert said in str(error.value)
    assert not (clone / "runs").exists()


@pytest.mark.parametrize(
    "ended, code",
    [
        (["finished", "done"], 0),
        (["done", "failed"], 1),
        (["done", "failed", "stopped"], 130),
        (["done", "waiting"], 130),
    ],
)
def test_the_exit_code_tells_how_cells_ended(ended, code):
    run = prepare("quickstart")
    assert exit_code([Cell(status, {}, run, status) for status in ended]) == code


@pytest.mark.trust
@pytest.mark.parametrize("text", ["", "{", "[1]", '"text"', "null", "{}", '{"average": {"f1": NaN}}'])
def test_a_cell_with_damaged_results_is_no_finished_one(clone, text):
    (cell,) = plan_cells(Request("quickstart", "smoke"))
    cell.look()
    assert (cell.status, cell.reason) == ("waiting", "")
    cell.run.out.mkdir(parents=True)
    (cell.run.out / "results.json").write_text(text)
    cell.look()
    assert cell.status == "waiting" and cell.reason.startswith("results.json is damaged (")
    assert next(iter(sweep_table([cell]).columns[3].cells)).plain == "–"


@pytest.mark.trust
def test_a_run_on_another_list_is_no_finished_cell(clone):
    """Rows were added to the manifest: its F1 is not one to stand beside new ones."""
    (clone / "own.csv").write_text("image,mask,label,source\n")
    request = Request("quickstart", "smoke", {"data.manifest": "own.csv"})
    (cell,) = plan_cells(request)
    digest = inputs_digest(cell.run)
    (cell.run.out).mkdir(parents=True)
    results = json.loads((finish("quickstart", "smoke", 0, 0.5) / "results.json").read_text())
    results["parameters"] = {"data.manifest": "own.csv"}
    for inputs, status in ((digest, "finished"), (None, "finished"), ("0123456789abcdef", "failed")):
        (cell.run.out / "results.json").write_text(json.dumps({**results, "inputs": inputs}))
        (again,) = plan_cells(request)
        again.look()
        assert again.status == status
        again = plan_cells(request)[0]
        again.look(files=False)  # they are where the workers are
        assert again.status == "finished"
    (clone / "own.csv").write_text("image,mask,label,source\na.png,,0,x\n")
    assert inputs_digest(cell.run) != digest


@pytest.mark.trust
def test_results_of_a_copied_folder_are_not_those_of_its_run(clone):
    """cp -r 0 1, to begin a second seed: its F1 was that of the first."""
    first = finish("quickstart", "smoke", 0, 0.5)
    shutil.copytree(first, first.parent / "1")
    cells = plan_cells(Request("quickstart", "smoke", over={"SEED": ["0", "1"]}))
    for cell in cells:
        cell.look()
    assert [cell.status for cell in cells] == ["finished", "failed"]
    assert cells[1].reason == "results.json is of another run (seed 0); move it to where it belongs"
    (other,) = plan_cells(Request("quickstart", "smoke", {"pretrain.steps": "3"}))
    shutil.copytree(first, other.run.out)
    other.look(files=False)
    assert other.status == "failed" and "of another run (parameters {})" in other.reason


@pytest.mark.trust
@pytest.mark.parametrize("status, shown", [("done", "0.500"), ("finished", "0.500"), ("failed", "–"), ("waiting", "–")])
def test_the_score_of_an_earlier_run_does_not_stand_beside_a_failure(clone, status, shown):
    (cell,) = plan_cells(Request("quickstart", "smoke"))
    finish("quickstart", "smoke", 0, 0.5, 0.5)
    cell.status = status
    assert next(iter(sweep_table([cell]).columns[3].cells)).plain == shown
