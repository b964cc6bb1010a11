"""Solvers: each finds actions of low cost for a batch of episodes at once."""
