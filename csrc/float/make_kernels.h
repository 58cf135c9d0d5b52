// Builds the kernel table of one instruction set.
#pragma once
#include "backward.h"
#include "forward.h"
#include "kernel_table.h"

namespace inhibitor {
namespace {

template <class V>
constexpr FloatKernels make_kernels() {
  return {V::kName,           Forward<V>::items,    Forward<V>::scratch, Forward<V>::run,
          Backward<V>::items, Backward<V>::scratch, Backward<V>::run};
}

}  // namespace
}  // namespace inhibitor
