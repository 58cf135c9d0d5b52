// clang-format off
#include "simd_neon.h"
#include "make_kernels.h"
// clang-format on

namespace inhibitor {
extern const IntegerTable kIntegerNeon = make_table<BytesNeon, WordsNeon>("neon");
}
