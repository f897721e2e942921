"""Forgeries with known truth: scenes, cameras, and what is done to their pictures."""
