// clang-format off
#include "simd_avx2.h"
#include "kernels.h"
// clang-format on

namespace inhibitor {
extern const Kernels kAvx2 = kernels<Avx2>();
}
