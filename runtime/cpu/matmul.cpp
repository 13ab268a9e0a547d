// Matrix products of more than a few rows (few_rows.cpp). float32 and bfloat16 use oneDNN, whose primitives are cached
// by shape; float64, which oneDNN does not support, uses OpenBLAS. Without hardware for bfloat16, operands are
// converted to and multiplied in float32.
#include <cblas.h>
#include <omp.h>

#include <dnnl.hpp>
#include <map>
#include <tuple>
#include <vector>

#include "runtime/cpu/cpu_backend.h"
#include "runtime/cpu/growing_buffer.h"
#include "runtime/cpu/product_pieces.h"

namespace carillon {
namespace {

using Key = std::vector<int64_t>;

dnnl::memory::data_type dnnl_type(DType dtype) {
  return dtype == DType::kBFloat16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

// op(x) as a matrix of rows × columns in x's memory.
dnnl::memory::desc describe_operand(const Tensor& x, bool transposed) {
  dnnl::memory::dims sizes{x.size(0), x.size(1)}, strides{x.stride(0), x.stride(1)};
  // A dim of one element may carry any stride; oneDNN needs a sensible one.
  if (x.size(0) == 1) strides[0] = x.size(1);
  if (transposed) {
    std::swap(sizes[0], sizes[1]);
    std::swap(strides[0], strides[1]);
  }
  return {sizes, dnnl_type(x.dtype()), strides};
}

void check_rows(const Tensor& x) {
  CHECK(x.rank() == 2 && (x.stride(1) == 1 || x.size(1) <= 1), "a matrix with packed rows", describe(x));
}

void gemm64(const Tensor& c, const Tensor& a, const Tensor& b, bool ta, bool tb, bool accumulate, int threads) {
  const int64_t rows = c.size(0), columns = c.size(1), inner = a.size(ta ? 0 : 1);
  const auto leading = [](const Tensor& x) {
    return static_cast<int>(std::max<int64_t>(x.stride(0), std::max<int64_t>(x.size(1), 1)));
  };
  if (openblas_get_num_threads() != threads) openblas_set_num_threads(threads);
  cblas_dgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, static_cast<int>(rows),
              static_cast<int>(columns), static_cast<int>(inner), 1.0, a.data<double>(), leading(a), b.data<double>(),
              leading(b), accumulate ? 1.0 : 0.0, c.data<double>(), leading(c));
}

}  // namespace

void CpuBackend::lower_libraries(InstructionSet set) {
  switch (set) {
    case InstructionSet::kBaseline:
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::sse41);
      break;
    case InstructionSet::kAvx2:
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
      break;
    case InstructionSet::kAvx512:
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core);
      break;
    case InstructionSet::kAvx512Bf16:
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx512_core_bf16);
      break;
    case InstructionSet::kAmx:
      break;
  }
}

struct CpuBackend::Products {
  explicit Products(CpuBackend& owner) : backend(owner) {}

  CpuBackend& backend;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  struct Made {
    dnnl::matmul primitive;
    dnnl::memory a, b, c;
    // Set if oneDNN wants b in a different layout: b is then packed before each product.
    dnnl::reorder pack;
    dnnl::memory packed;
    dnnl::memory scratchpad;
  };
  std::map<Key, Made> made;
  GrowingBuffer packed, scratchpad, partial;  // shared by all products
  std::vector<float> a32, b32, c32;           // operands converted for lack of bfloat16 hardware

  // Packing reads b once, while a product reads it once for every few rows of c; from this many rows on packing pays
  // (two Zen 5 cores, random data, [2048, 576] · [576, 3072] in bfloat16: 851 GFLOP/s unpacked, 1010 packed, of which
  // packing takes 3 %). With AMX oneDNN arranges the tiles of b itself, so packing pays later (two Sapphire Rapids
  // cores: [8192, 576] · [576, 1536] 1438 unpacked, 1859 packed; 2048 rows 714 and 713; logits [1024, 576] ·
  // [576, 49152] 566 and, in pieces, 363), and not with a transposed (weight gradients [576, 8192] · [8192, 1536]: 787
  // and 576).
  static constexpr int64_t kRowsWorthPacking = 128, kRowsWorthPackingForTiles = 4096;
  bool packs(const Tensor& c, const Tensor& b, bool ta) const {
    if (b.dtype() == DType::kBFloat16 && backend.instruction_set_ == InstructionSet::kAmx)
      return c.size(0) >= kRowsWorthPackingForTiles && !ta;
    return c.size(0) >= kRowsWorthPacking;
  }

  Made& find(const Tensor& c, const Tensor& a, const Tensor& b, bool ta, bool tb, bool accumulate) {
    const Key key{c.size(0),
                  c.size(1),
                  c.stride(0),
                  a.size(0),
                  a.size(1),
                  a.stride(0),
                  b.size(0),
                  b.size(1),
                  b.stride(0),
                  ta,
                  tb,
                  accumulate,
                  static_cast<int64_t>(a.dtype()),
                  static_cast<int64_t>(c.dtype())};
    const auto found = made.find(key);
    if (found != made.end()) return found->second;
    const auto ad = describe_operand(a, ta), bd = describe_operand(b, tb), cd = describe_operand(c, false);
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (accumulate) {
      dnnl::post_ops sum;
      sum.append_sum(1.0f);
      attributes.set_post_ops(sum);
    }
    const dnnl::memory::desc wanted =
        packs(c, b, ta) ? dnnl::memory::desc(bd.dims(), bd.data_type(), dnnl::memory::format_tag::any) : bd;
    const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(ad, wanted, cd), attributes, engine);
    Made fresh{dnnl::matmul(description),
               dnnl::memory(ad, engine, nullptr),
               dnnl::memory(bd, engine, nullptr),
               dnnl::memory(cd, engine, nullptr),
               {},
               {},
               dnnl::memory(description.scratchpad_desc(), engine, nullptr)};
    if (description.weights_desc() != bd) {
      fresh.packed = dnnl::memory(description.weights_desc(), engine, nullptr);
      fresh.pack = dnnl::reorder(fresh.b, fresh.packed);
    }
    return made.emplace(key, std::move(fresh)).first->second;
  }

  // The size of a piece when `whole` is cut evenly into as few pieces as possible of about `most`; a multiple of 64.
  static int64_t even_piece(int64_t whole, int64_t most) {
    const int64_t pieces = (whole + std::max<int64_t>(most, 64) - 1) / std::max<int64_t>(most, 64);
    return ((whole + pieces - 1) / pieces + 63) / 64 * 64;
  }

  // Packs a large b in pieces, which stay in the caches until they are multiplied; packed as a whole, b would go to
  // memory and back (float32, [511, 576] · [576, 49152]: 345 GFLOP/s as a whole, 450 in pieces). A long inner dim is
  // cut for AMX too (bfloat16, [1024, 49152] · [49152, 576]: 942 as a whole, 1227 in pieces).
  void run(const Tensor& c, const Tensor& a, const Tensor& b, bool ta, bool tb, bool accumulate) {
    const int64_t columns = c.size(1), inner = a.size(ta ? 0 : 1);
    const int64_t elements = cpu::kPackedBytes / static_cast<int64_t>(size_of(b.dtype()));
    if (c.size(0) < kRowsWorthPacking || columns * inner <= elements) return once(c, a, b, ta, tb, accumulate);
    const auto columns_of = [](const Tensor& x, bool transposed, int64_t begin, int64_t end) {
      return x.slice(transposed ? 0 : 1, begin, end);
    };
    if (columns >= inner) {
      if (!packs(c, b, ta)) return once(c, a, b, ta, tb, accumulate);
      const int64_t piece = even_piece(columns, elements / inner);
      for (int64_t begin = 0; begin < columns; begin += piece) {
        const int64_t end = std::min(columns, begin + piece);
        once(c.slice(1, begin, end), a, columns_of(b, tb, begin, end), ta, tb, accumulate);
      }
      return;
    }
    // Pieces are summed in float32: in c, or in a separate buffer of kPartialRows rows if c is bfloat16.
    const bool beside = c.dtype() == DType::kBFloat16;
    const int64_t piece = even_piece(inner, elements / columns);
    const int64_t rows = beside ? std::min(c.size(0), cpu::kPartialRows) : c.size(0);
    for (int64_t row = 0; row < c.size(0); row += rows) {
      const Tensor some = c.rows(row, std::min(c.size(0), row + rows));
      const Tensor left = columns_of(a, !ta, row, row + some.size(0));
      const Tensor sum = beside ? Tensor(partial.get<float>(some.count()), DType::kFloat32, some.shape()) : some;
      if (beside && accumulate) backend.copy(sum, some);
      for (int64_t begin = 0; begin < inner; begin += piece) {
        const int64_t end = std::min(inner, begin + piece);
        once(sum, columns_of(left, ta, begin, end), columns_of(b, !tb, begin, end), ta, tb, begin > 0 || accumulate);
      }
      if (beside) backend.copy(some, sum);
    }
  }

  void once(const Tensor& c, const Tensor& a, const Tensor& b, bool ta, bool tb, bool accumulate) {
    Made& product = find(c, a, b, ta, tb, accumulate);
    product.a.set_data_handle(a.raw());
    product.b.set_data_handle(b.raw());
    product.c.set_data_handle(c.raw());
    product.scratchpad.set_data_handle(
        scratchpad.get<char>(static_cast<int64_t>(product.scratchpad.get_desc().get_size())));
    if (product.packed) {
      product.packed.set_data_handle(packed.get<char>(static_cast<int64_t>(product.packed.get_desc().get_size())));
      product.pack.execute(stream, product.b, product.packed);
    }
    product.primitive.execute(stream, {{DNNL_ARG_SRC, product.a},
                                       {DNNL_ARG_WEIGHTS, product.packed ? product.packed : product.b},
                                       {DNNL_ARG_DST, product.c},
                                       {DNNL_ARG_SCRATCHPAD, product.scratchpad}});
    stream.wait();
  }
};

void CpuBackend::ProductsDeleter::operator()(Products* products) const { delete products; }
CpuBackend::Products& CpuBackend::products() {
  if (!products_) products_.reset(new Products(*this));
  return *products_;
}

void CpuBackend::matmul(Tensor c, Tensor a, Tensor b, Transpose transpose_a, Transpose transpose_b, bool accumulate) {
  CHECK(a.dtype() == b.dtype(), "matmul of two types", carillon::describe(a), carillon::describe(b));
  const bool ta = transpose_a == Transpose::kYes, tb = transpose_b == Transpose::kYes;
  const int64_t inner = a.size(ta ? 0 : 1);
  CHECK(a.size(ta ? 1 : 0) == c.size(0) && b.size(tb ? 0 : 1) == c.size(1) && b.size(tb ? 1 : 0) == inner,
        "matmul shapes", carillon::describe(c), carillon::describe(a), carillon::describe(b));
  for (const Tensor& x : {c, a, b}) check_rows(x);
  if (c.empty()) return;
  if (inner == 0) {
    if (!accumulate) fill(c, 0);
    return;
  }
  const int threads = threads_for_products(c.count() * inner);
  if (takes_few_rows(c, ta, tb)) return few_rows_product(c, a, b, accumulate);
  if (a.dtype() == DType::kFloat64) return gemm64(c, a, b, ta, tb, accumulate, threads);
  if (takes_update(c, a, ta, accumulate)) return update(c, a, b, tb);
  omp_set_num_threads(threads);
  Products& p = products();
  if (a.dtype() == DType::kFloat32 || multiplies_bfloat16(instruction_set_)) return p.run(c, a, b, ta, tb, accumulate);
  const auto widen = [&](std::vector<float>& values, const Tensor& x) {
    if (values.size() < static_cast<size_t>(x.count())) values.resize(static_cast<size_t>(x.count()));
    const Tensor wide(values.data(), DType::kFloat32, x.shape());
    copy(wide, x);
    return wide;
  };
  const Tensor wide_a = widen(p.a32, a), wide_b = widen(p.b32, b);
  if (c.dtype() == DType::kFloat32) return p.run(c, wide_a, wide_b, ta, tb, accumulate);
  const Tensor wide_c = widen(p.c32, c);
  p.run(wide_c, wide_a, wide_b, ta, tb, accumulate);
  copy(c, wide_c);
}

}  // namespace carillon
