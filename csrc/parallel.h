// Runs independent items on the threads of the OpenMP runtime that torch has loaded.
#pragma once
#include <cstdint>

namespace inhibitor {

using Work = void (*)(const void* context, int64_t item, float* scratch);

// `GOMP_parallel` of the loaded runtime (libgomp, libomp and libiomp5 all export it); null: one thread.
void set_parallel_entry(void* gomp_parallel);
// Scratch is filled with NaN before every item: tests prove that nothing is read before it is written.
void set_poison(bool on);

// work(context, i, scratch) for i in [0, items), on at most `threads` threads. False: out of memory.
bool run_items(int64_t items, int64_t threads, int64_t scratch_floats, Work work, const void* context);

}  // namespace inhibitor
