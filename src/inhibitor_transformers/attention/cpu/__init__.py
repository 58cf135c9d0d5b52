"""The compiled engine for CPUs: kernels in C++ behind a C interface."""
