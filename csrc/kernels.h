// The table of one instruction set.
#pragma once
#include "backward.h"
#include "engine.h"
#include "forward.h"

namespace inhibitor {
namespace {

template <class V>
constexpr Kernels kernels() {
  return {V::kName,           Forward<V>::items,    Forward<V>::scratch, Forward<V>::run,
          Backward<V>::items, Backward<V>::scratch, Backward<V>::run};
}

}  // namespace
}  // namespace inhibitor
