"""Augmentation: on the device, and the released code's pipeline."""
