"""The network: HRFormer, MPC's projections and heads, weights and their conversion."""
