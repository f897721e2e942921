#!/usr/bin/env bash
# onnxruntime 1.19 to 1.21 refuse a valid model whose nodes have no names: their own fusion gives two nodes one name.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.17.0 onnxruntime==1.21.1 numpy==2.2.6
export ORT_DISABLE_TELEMETRY=1
cat > "$folder/look.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def model(named):
    """Two pairs of numbers, each taken apart by two Gathers, all added up. The standard lets nodes go without names."""
    indices = [numpy_helper.from_array(np.array([i]), f"index{i}") for i in (0, 1)]
    nodes, ends = [], []
    for pair in ("a", "b"):
        for i in (0, 1):
            end = f"{pair}{i}"
            name = {"name": end} if named else {}
            nodes.append(helper.make_node("Gather", [pair, f"index{i}"], [end], axis=0, **name))
            ends.append(end)
    nodes.append(helper.make_node("Sum", ends, ["total"], **({"name": "sum"} if named else {})))
    inputs = [helper.make_tensor_value_info(pair, TensorProto.FLOAT, [2]) for pair in ("a", "b")]
    outputs = [helper.make_tensor_value_info("total", TensorProto.FLOAT, [1])]
    graph = helper.make_graph(nodes, "pairs", inputs, outputs, indices)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(whole, full_check=True)
    return whole.SerializeToString()


def answer(data):
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:
        return f"refused: {str(error).splitlines()[0][-75:]}"
    numbers = {"a": np.float32([1, 2]), "b": np.float32([3, 4])}
    return f"total {session.run(None, numbers)[0].tolist()}"


seen = {named: answer(model(named)) for named in (True, False)}
print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
for named, said in seen.items():
    print(f"  nodes {'with' if named else 'without'} names: {said}")
expected = sys.argv[1] == "refused"
ok = seen[True] == "total [10.0]" and (seen[False].startswith("refused") if expected else seen[False] == seen[True])
sys.exit(0 if ok else 1)
PYTHON

echo "Guess: names of nodes are for people; a model that onnx's checker accepts runs with them and without."
"$folder/venv/bin/python" "$folder/look.py" refused
"$folder/venv/bin/pip" install --quiet onnxruntime==1.22.1
"$folder/venv/bin/python" "$folder/look.py" runs
echo "Seen: up to 1.21.1 the optimiser makes a Split of each pair of Gathers and names both alike, then calls the model"
echo "      invalid (two nodes with same node name); 1.22.1 runs it. Whoever writes graphs node by node names the nodes."
