// clang-format off
#include "simd_portable.h"
#include "kernels.h"
// clang-format on

namespace inhibitor {
extern const Kernels kPortable = kernels<Portable>();
}
