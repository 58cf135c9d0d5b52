// Runs independent items on the threads of the process that calls: never on threads of our own.
#pragma once
#include <cstdint>

#include "inhibitor.h"

namespace inhibitor {

using Work = void (*)(const void* context, int64_t item, float* scratch);

// Whose threads run, and how many at most.
struct Team {
  explicit Team(int64_t most) : threads(most) {}
  explicit Team(const InhibitorCall& c) : threads(c.threads), parallel(c.parallel), pool(c.pool) {}

  int64_t threads;
  InhibitorParallel parallel = nullptr;  // null: the OpenMP runtime of `set_parallel_entry`
  void* pool = nullptr;
};

// `GOMP_parallel` of the loaded runtime (libgomp, libomp and libiomp5 all export it); null: one thread.
void set_parallel_entry(void* gomp_parallel);
// Scratch is filled with NaN before every item, shared scratch when it is made: tests prove that nothing is read before
// it is written.
void set_poison(bool on);

// Memory that all units of a call share; null: none is left.
class SharedScratch {
 public:
  explicit SharedScratch(int64_t floats);
  ~SharedScratch();
  SharedScratch(const SharedScratch&) = delete;
  SharedScratch& operator=(const SharedScratch&) = delete;

  bool is_wanted() const { return floats_ > 0; }
  float* data() const { return data_; }

 private:
  int64_t floats_;
  float* data_;
};

// work(context, i, scratch) for i in [0, items). INHIBITOR_OK or INHIBITOR_OUT_OF_MEMORY.
int64_t run_items(int64_t items, const Team& team, int64_t scratch_floats, Work work, const void* context);

}  // namespace inhibitor
