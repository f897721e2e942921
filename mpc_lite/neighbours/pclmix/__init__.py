"""PCLMix: learning from scribbles, from the losses to the training stage."""
