"""One module a chapter, named as it."""
