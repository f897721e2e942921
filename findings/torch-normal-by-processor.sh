#!/usr/bin/env bash
# torch: the same seed gives other normal numbers on an x86 processor without AVX2, though its uniform ones are equal.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.14.1 numpy==2.4.6
cat > "$folder/draw.py" <<'PYTHON'
import hashlib
import sys

import torch

torch.manual_seed(0)
uniform = torch.rand(100_000)
torch.manual_seed(0)
normal = torch.randn(100_000)
torch.save((uniform, normal), sys.argv[1])
layer = torch.nn.Conv2d(3, 64, 3)
torch.manual_seed(0)
torch.nn.init.trunc_normal_(layer.weight, std=0.02)
print(torch.backends.cpu.get_cpu_capability(), hashlib.sha256(layer.weight.detach().numpy().tobytes()).hexdigest()[:16])
PYTHON
cat > "$folder/look.py" <<'PYTHON'
import platform
import sys

import torch

(plain, wide), names = (torch.load(name) for name in sys.argv[1:3]), ("uniform", "normal")
print(f"torch {torch.__version__}, {platform.machine()}; one seed, drawn without and with AVX2")
print("one would guess: the generator is the same, so are the numbers (or, at another seed, all of them differ)")
unequal = {}
for name, a, b in zip(names, plain, wide, strict=True):
    unequal[name] = (a != b).double().mean().item()
    print(f"{name}: {unequal[name]:.0%} differ, by {(a.double() - b.double()).abs().max():.1e} at most")
seen = unequal["uniform"] == 0 and 0.1 < unequal["normal"] < 0.9
says = "logarithm and cosine are rounded otherwise, so a hash of freshly drawn weights hangs on the processor"
print(f"seen: {says}" if seen else "this has changed")
sys.exit(not seen)
PYTHON
for capability in default avx2; do
    ATEN_CPU_CAPABILITY=$capability "$folder/venv/bin/python" "$folder/draw.py" "$folder/$capability.pt"
done
"$folder/venv/bin/python" "$folder/look.py" "$folder/default.pt" "$folder/avx2.pt"
