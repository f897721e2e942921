"""The method: views, drawn pixels, InfoNCE, and the loss of stage 1."""
