"""PPPC: pixels as Gaussians, pulled to prototypes, from the similarity to the training stage."""
