"""From a trained network to score maps of photographs."""
