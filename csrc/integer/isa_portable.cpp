// clang-format off
#include "simd_portable.h"
#include "make_kernels.h"
// clang-format on

namespace inhibitor {
extern const IntegerTable kIntegerPortable = make_table<BytesPortable, WordsPortable>("portable");
}
