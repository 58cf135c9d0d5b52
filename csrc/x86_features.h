// Which vector instructions this processor has and its operating system keeps, by CPUID. `__builtin_cpu_supports` asks
// the compiler's runtime library, and Zig's, which wheels are linked with, answers no to everything.
#pragma once
#include <cpuid.h>

#include <cstdint>

namespace inhibitor {

struct X86Features {
  bool avx2_fma = false;
  bool avx512 = false;  // F, DQ, BW and VL
  bool avx512_vnni = false;

  X86Features() {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    const bool fma = c >> 12 & 1, has_xgetbv = c >> 27 & 1;
    if (!has_xgetbv || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    const uint32_t kept = kept_state();
    const uint32_t ymm = 0x6, zmm = 0xe6;  // of XCR0: which registers survive a switch of threads
    avx2_fma = fma && (b >> 5 & 1) && (kept & ymm) == ymm;
#if defined(__APPLE__)
    const bool keeps_zmm = avx2_fma;  // macOS sets these bits at a thread's first use
#else
    const bool keeps_zmm = (kept & zmm) == zmm;
#endif
    avx512 = avx2_fma && keeps_zmm && (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1);
    avx512_vnni = avx512 && (c >> 11 & 1);
  }

 private:
  static uint32_t kept_state() {
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
  }
};

}  // namespace inhibitor
