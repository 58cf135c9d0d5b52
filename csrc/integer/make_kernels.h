// Builds the kernel table of one instruction set.
#pragma once
#include "forward.h"
#include "kernel_table.h"
#include "quantize.h"

namespace inhibitor {
namespace {

template <class V>
constexpr IntegerKernels make_kernels() {
  return {IntegerForward<V>::items, IntegerForward<V>::scratch, IntegerForward<V>::run};
}

// `Int8` and `Int16`: the vectors of both precisions.
template <class Int8, class Int16>
constexpr IntegerTable make_table(const char* name) {
  return {name, make_kernels<Int8>(), make_kernels<Int16>(), Quantize<Int8>::run};
}

}  // namespace
}  // namespace inhibitor
