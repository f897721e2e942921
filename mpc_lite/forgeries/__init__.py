"""Forgeries with known truth: scenes, cameras, real photographs, and what is done to their pictures."""
