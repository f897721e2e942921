"""Whole runs: the notebook's runner, sweeps, results, reports, and the paper beside them."""
