"""Draw book/assets/readme.png: the shipped model on the first tampered test forgeries from packaged photographs."""

from pathlib import Path

from mpc_lite.figures.pictures import gallery
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import forge
from mpc_lite.inference.localizer import Localizer

N, SIZE = 4, 256

scenes = Scenes("test", ["packaged"])
forgeries = [m for m in (forge("test", 0, i, scenes, SIZE) for i in range(4 * N)) if m.kind != "authentic"][:N]
localizer = Localizer.from_pretrained()
maps = [localizer(m.image).score_map for m in forgeries]
figure = gallery(
    [m.image for m in forgeries], [m.mask for m in forgeries], maps, sources=[f"generated-{m.kind}" for m in forgeries]
)
target = Path(__file__).parents[2] / "assets/readme.png"
target.parent.mkdir(exist_ok=True)
figure.savefig(target, dpi=110)
print(target.name, target.stat().st_size // 1024, "kB")
