"""What a run does: its keys, how a recipe is read, and the recipes themselves."""
