"""The CPU engine: C++ kernels behind a C interface (docs/explanation/cpu-kernels.md)."""
