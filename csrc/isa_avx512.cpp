// clang-format off
#include "simd_avx512.h"
#include "kernels.h"
// clang-format on

namespace inhibitor {
extern const Kernels kAvx512 = kernels<Avx512>();
}
