"""What a run costs, counted and measured."""
