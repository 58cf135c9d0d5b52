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

// `Bytes` and `Words`: the vectors for levels of at most 8 bits and of 16.
template <class Bytes, class Words>
constexpr IntegerTable make_table(const char* name) {
  return {name, make_kernels<Bytes>(), make_kernels<Words>(), Quantize<Bytes>::run};
}

}  // namespace
}  // namespace inhibitor
