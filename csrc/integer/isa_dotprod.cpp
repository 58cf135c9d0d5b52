// clang-format off
#include "simd_dotprod.h"
#include "make_kernels.h"
// clang-format on

namespace inhibitor {
extern const IntegerTable kIntegerDotprod = make_table<BytesDotprod, WordsNeon>("dotprod");
}
