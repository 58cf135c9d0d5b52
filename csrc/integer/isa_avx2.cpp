// clang-format off
#include "simd_avx2.h"
#include "make_kernels.h"
// clang-format on

namespace inhibitor {
extern const IntegerTable kIntegerAvx2 = make_table<BytesAvx2, WordsAvx2>("avx2");
}
