"""Metrics, protocols, baselines and degradations: what a score map is worth."""
