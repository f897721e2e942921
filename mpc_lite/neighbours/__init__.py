"""Neighbouring methods: each one module beside MPC, off unless asked for."""
