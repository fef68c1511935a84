// bench/kernels/onednn_gemm.cc
// SPDX-License-Identifier: Apache-2.0
#include "bench/kernels/onednn_gemm.h"

#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

namespace ting::bench {

std::function<void()> MakeOneDnnGemm(int64_t R, int64_t K, int64_t N, bool bf16) {
  using dnnl::memory;
  using tag = memory::format_tag;
  const auto type = bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  static dnnl::stream stream(engine);
  const memory::desc a({R, K}, type, tag::ab), any({K, N}, type, tag::any);
  const memory::desc b({1, N}, memory::data_type::f32, tag::ab), c({R, N}, memory::data_type::f32, tag::ab);
  try {
    const dnnl::matmul::desc desc(a, any, b, c);
    const dnnl::matmul::primitive_desc primitive_desc(desc, engine);
    auto args = std::make_shared<std::unordered_map<int, memory>>();
    (*args)[DNNL_ARG_SRC] = memory(a, engine);
    (*args)[DNNL_ARG_WEIGHTS] = memory(primitive_desc.weights_desc(), engine);
    (*args)[DNNL_ARG_BIAS] = memory(b, engine);
    (*args)[DNNL_ARG_DST] = memory(c, engine);
    for (auto& [id, m] : *args) std::fill_n(static_cast<char*>(m.get_data_handle()), m.get_desc().get_size(), 0);
    auto matmul = std::make_shared<dnnl::matmul>(primitive_desc);
    return [=] {
      matmul->execute(stream, *args);
      stream.wait();
    };
  } catch (const dnnl::error&) {
    return {};
  }
}

}  // namespace ting::bench
