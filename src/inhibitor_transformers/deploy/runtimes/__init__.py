"""Inhibitor attention as an operator of other runtimes: where their libraries lie, and how they are loaded."""
