// The table of one instruction set.
#pragma once
#include "forward.h"
#include "kernels.h"
#include "levels.h"

namespace inhibitor {
namespace {

template <class V>
constexpr IntegerKernels integer_kernels() {
  return {IntegerForward<V>::items, IntegerForward<V>::scratch, IntegerForward<V>::run};
}

}  // namespace
}  // namespace inhibitor
