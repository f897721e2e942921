"""Recipes: what a run does, as checked data."""


class InputError(ValueError):
    """A mistake its user can mend; the message says what was found, what was expected and what to do."""
