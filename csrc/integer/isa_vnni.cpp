// clang-format off
#include "simd_vnni.h"
#include "make_kernels.h"
// clang-format on

namespace inhibitor {
extern const IntegerTable kIntegerVnni = make_table<BytesVnni, WordsVnni>("avx512vnni");
}
