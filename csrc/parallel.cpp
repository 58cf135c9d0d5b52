#include "parallel.h"

#include <atomic>
#include <cstdlib>
#include <limits>

namespace inhibitor {
namespace {

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

std::atomic<GompParallel> g_parallel{nullptr};
std::atomic<bool> g_poison{false};

// One thread's scratch, kept for its next call up to a size that nobody minds.
class ThreadScratch {
 public:
  ~ThreadScratch() { std::free(block_); }
  float* get(int64_t floats) {
    if (floats > capacity_) {
      std::free(block_);
      block_ = std::malloc(static_cast<size_t>(floats) * sizeof(float) + kAlign);
      capacity_ = block_ ? floats : 0;
    }
    const auto address = reinterpret_cast<uintptr_t>(block_);
    return block_ ? reinterpret_cast<float*>((address + kAlign - 1) / kAlign * kAlign) : nullptr;
  }
  void shrink() {
    if (capacity_ <= kKeep) return;
    std::free(block_);
    block_ = nullptr;
    capacity_ = 0;
  }

 private:
  static constexpr uintptr_t kAlign = 64;
  static constexpr int64_t kKeep = int64_t{1} << 20;  // floats
  void* block_ = nullptr;
  int64_t capacity_ = 0;
};

thread_local ThreadScratch t_scratch;

void fill_with_nan(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = std::numeric_limits<float>::quiet_NaN();
}

struct Job {
  int64_t items, scratch_floats;
  Work work;
  const void* context;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
};

void take_items(void* argument) {
  Job& job = *static_cast<Job*>(argument);
  float* scratch = t_scratch.get(job.scratch_floats);
  if (!scratch) {
    job.failed = true;
    return;
  }
  const bool poison = g_poison.load(std::memory_order_relaxed);
  for (int64_t item; (item = job.next.fetch_add(1, std::memory_order_relaxed)) < job.items;) {
    if (poison) fill_with_nan(scratch, job.scratch_floats);
    job.work(job.context, item, scratch);
  }
  t_scratch.shrink();
}

}  // namespace

void set_parallel_entry(void* gomp_parallel) { g_parallel = reinterpret_cast<GompParallel>(gomp_parallel); }
void set_poison(bool on) { g_poison = on; }

SharedScratch::SharedScratch(int64_t floats)
    : floats_(floats),
      data_(floats > 0 ? static_cast<float*>(std::malloc(static_cast<size_t>(floats) * sizeof(float))) : nullptr) {
  if (data_ && g_poison.load(std::memory_order_relaxed)) fill_with_nan(data_, floats);
}
SharedScratch::~SharedScratch() { std::free(data_); }

int64_t run_items(int64_t items, const Team& team, int64_t scratch_floats, Work work, const void* context) {
  Job job;
  job.items = items;
  job.scratch_floats = scratch_floats;
  job.work = work;
  job.context = context;
  const int64_t count = team.threads < items ? team.threads : items;
  const GompParallel openmp = g_parallel;
  if (team.parallel && count > 1)
    team.parallel(team.pool, count, take_items, &job);
  else if (openmp && count > 1)
    openmp(take_items, &job, static_cast<unsigned>(count), 0);
  else
    take_items(&job);
  // A thread without memory leaves its items to the others; they are lost only if all failed.
  return !job.failed || job.next.load() >= items ? INHIBITOR_OK : INHIBITOR_OUT_OF_MEMORY;
}

}  // namespace inhibitor
