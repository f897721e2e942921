"""What each of the two processes of test_pppc_stage.py does; in a file of its own, so that little is imported there."""

import torch

from mpc_lite.neighbours.pppc.gaussians import GaussianPrototypes, Gaussians


def take_in_share(index: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=index, world_size=2)
    pixels, labels = torch.load(f"{folder}/batches.pt")[index]
    prototypes = GaussianPrototypes(2, 3)
    prototypes.update(Gaussians(*pixels), labels)
    torch.save(prototypes.state_dict(), f"{folder}/{index}.pt")
    torch.distributed.destroy_process_group()
