"""From a circuit's text to standard cells, and from these to joules: mapping, simulation, timing, energy."""
