"""MSCCNet: multi-spectral class centres, from the bank of waves to the training stage."""
