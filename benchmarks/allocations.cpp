// Counts what is allocated: preloaded (LD_PRELOAD) into a process, it stands before the malloc of glibc.

#include <errno.h>
#include <malloc.h>

#include <atomic>
#include <cstdint>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
}

static std::atomic<int64_t> g_live{0}, g_peak{0};

static void* taken(void* p) {
  if (!p) return p;
  const int64_t live = g_live += static_cast<int64_t>(malloc_usable_size(p));
  int64_t peak = g_peak;
  while (live > peak && !g_peak.compare_exchange_weak(peak, live)) {
  }
  return p;
}

static void given_back(void* p) {
  if (p) g_live -= static_cast<int64_t>(malloc_usable_size(p));
}

extern "C" {

// What lives now is no longer counted.
void allocations_forget() { g_live = 0; }
void allocations_restart_peak() { g_peak = g_live.load(); }
int64_t allocations_peak() { return g_peak; }

void* malloc(size_t n) { return taken(__libc_malloc(n)); }
void* calloc(size_t n, size_t size) { return taken(__libc_calloc(n, size)); }
void* memalign(size_t alignment, size_t n) { return taken(__libc_memalign(alignment, n)); }
void* aligned_alloc(size_t alignment, size_t n) { return taken(__libc_memalign(alignment, n)); }
int posix_memalign(void** p, size_t alignment, size_t n) {
  *p = taken(__libc_memalign(alignment, n));
  return *p ? 0 : ENOMEM;
}
void* realloc(void* p, size_t n) {
  given_back(p);
  return taken(__libc_realloc(p, n));
}
void free(void* p) {
  given_back(p);
  __libc_free(p);
}
}
