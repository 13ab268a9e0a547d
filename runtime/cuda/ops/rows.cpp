// CudaBackend's ops on rows of channels: checks the tensors and launches the kernels of the same names.
#include "runtime/cuda/check_cuda.h"
#include "runtime/cuda/device_backend.h"
#include "runtime/cuda/ops/operands.h"

namespace carillon {
namespace {

using namespace cuda;

size_t sums_bytes(int64_t rows, int64_t channels, DType wide) {
  return static_cast<size_t>(row_runs(rows) * channels) * size_of(wide);
}

// Rows of heads: [N, C] has one head per row, [N, H, C] has H.
Heads heads(const Tensor& x) {
  CHECK(x.rank() == 2 || x.rank() == 3, "rows or rows of heads", describe(x));
  check_rows(x);
  return {x.raw(), x.stride(0), x.rank() == 3 ? x.stride(1) : 0};
}
// rstd [N] or [N, H], in any strides.
Heads head_rows(const Tensor& rstd, const Tensor& x, DType wide) {
  const int64_t count = x.rank() == 3 ? x.size(0) * x.size(1) : x.size(0);
  CHECK(rstd.count() == count && rstd.dtype() == wide, "one number per row", describe(rstd), describe(x));
  if (rstd.rank() == x.rank() - 1) return {rstd.raw(), rstd.stride(0), x.rank() == 3 ? rstd.stride(1) : 0};
  CHECK(rstd.packed(), "one number per row", describe(rstd), describe(x));
  return {rstd.raw(), x.rank() == 3 ? x.size(1) : 1, 1};
}

Rmsnorm rmsnorm_shape(const Tensor& x, const Tensor& weight, const NormOptions& options) {
  CHECK(x.size(-1) == weight.count() && weight.rank() == 1, "rmsnorm shapes", describe(x), describe(weight));
  Rmsnorm shape{type_of(x), x.size(0), x.rank() == 3 ? x.size(1) : 1, x.size(-1), packed(weight, x.dtype())};
  shape.offset = options.weight_offset;
  if (!options.sums) return shape;
  CHECK(options.sums.count() == x.size(0), "one sum per row", describe(options.sums), describe(x));
  shape.sums = packed(options.sums, accumulate_type(x.dtype()));
  shape.columns = options.columns;
  return shape;
}

}  // namespace

void CudaBackend::add_bias(Tensor y, Tensor bias) {
  const Matrix rows = matrix(y);
  CHECK(bias.count() == y.size(1), "bias and columns differ", bias.count(), y.size(1));
  CHECK_CUDA(launch_add_bias({type_of(y), y.size(0), y.size(1)}, rows, packed(bias, y.dtype()), on_device()));
}

void CudaBackend::bias_backward(Tensor dbias, Tensor dy) {
  const DType wide = accumulate_type(dy.dtype());
  const ConstMatrix rows = const_matrix(dy);
  CHECK(dbias.count() == dy.size(1), "bias and columns differ", dbias.count(), dy.size(1));
  void* partial = scratch(sums_bytes(dy.size(0), dy.size(1), wide));
  CHECK_CUDA(
      launch_bias_backward({type_of(dy), dy.size(0), dy.size(1)}, packed(dbias, wide), rows, partial, on_device()));
}

void CudaBackend::embedding_forward(Tensor y, Tensor ids, Tensor table, int64_t first_row) {
  const Matrix to = matrix(y);
  CHECK(ids.count() == y.size(0) && table.size(1) == y.size(1) && table.dtype() == y.dtype(), "embedding shapes",
        carillon::describe(y), carillon::describe(table));
  CHECK_CUDA(launch_embedding_forward({type_of(y), indices(ids), y.size(0), y.size(1), table.size(0), first_row}, to,
                                      const_matrix(table), on_device()));
}

void CudaBackend::embedding_backward(Tensor dtable, Tensor ids, Tensor dy, int64_t first_row) {
  const Matrix to = matrix(dtable);
  CHECK(ids.count() == dy.size(0) && dtable.size(1) == dy.size(1) && dtable.dtype() == accumulate_type(dy.dtype()),
        "embedding shapes", carillon::describe(dy), carillon::describe(dtable));
  CHECK(dtable.size(0) < (int64_t{1} << 31) && dy.size(0) < (int64_t{1} << 31), "rows are counted in 31 bits",
        carillon::describe(dy), carillon::describe(dtable));
  const auto wide = static_cast<int64_t>(size_of(dtable.dtype()));
  auto* keys = static_cast<uint64_t*>(scratch(static_cast<size_t>(embedding_bytes(dy.size(0), dy.size(1), wide))));
  CHECK_CUDA(launch_embedding_backward({type_of(dy), indices(ids), dy.size(0), dy.size(1), dtable.size(0), first_row},
                                       to, const_matrix(dy), keys, keys + embedding_keys(dy.size(0)), on_device()));
}

void CudaBackend::rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor weight, double epsilon,
                                  const NormOptions& options) {
  CHECK(y.shape() == x.shape() && y.dtype() == x.dtype(), "rmsnorm shapes", carillon::describe(y),
        carillon::describe(x));
  CHECK_CUDA(launch_rmsnorm_forward(rmsnorm_shape(x, weight, options), heads(y),
                                    head_rows(rstd, x, accumulate_type(x.dtype())), heads(x), epsilon, on_device()));
}

void CudaBackend::sum_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor branch, Tensor weight,
                                      double epsilon, const NormOptions& options) {
  CHECK(x.rank() == 2, "a norm of a sum is of matrices", carillon::describe(x));
  for (const Tensor& other : {sum, y, branch})
    CHECK(other.shape() == x.shape() && other.dtype() == x.dtype(), "rmsnorm shapes", carillon::describe(other),
          carillon::describe(x));
  CHECK_CUDA(launch_rmsnorm_forward(rmsnorm_shape(x, weight, options), heads(y),
                                    head_rows(rstd, x, accumulate_type(x.dtype())), heads(x), epsilon, on_device(),
                                    heads(branch), heads(sum)));
}

void CudaBackend::rmsnorm_backward(Tensor dx, Tensor dweight, Tensor dy, Tensor x, Tensor weight, Tensor rstd,
                                   bool accumulate, const NormOptions& options) {
  const DType wide = accumulate_type(x.dtype());
  for (const Tensor& other : {dx, dy, options.output ? options.output : dx})
    CHECK(other.shape() == x.shape() && other.dtype() == x.dtype(), "rmsnorm shapes", carillon::describe(other),
          carillon::describe(x));
  CHECK(!dweight || dweight.count() == weight.count(), "rmsnorm shapes", carillon::describe(dweight),
        carillon::describe(weight));
  const Rmsnorm shape = rmsnorm_shape(x, weight, options);
  const size_t bytes = sums_bytes(shape.rows * shape.heads, shape.channels, wide);
  const bool open = dweight && options.deferred;
  void* partial = open ? open_norm(bytes) : scratch(bytes);
  CHECK_CUDA(launch_rmsnorm_backward(shape, heads(dx), options.output ? heads(options.output) : Heads{}, heads(dy),
                                     heads(x), head_rows(rstd, x, wide), accumulate, partial, on_device()));
  if (!dweight) return;
  const Runs sums{packed(dweight, wide), partial, row_runs(shape.rows * shape.heads), shape.channels,
                  options.overwrite_weight};
  if (!open) {
    CHECK_CUDA(launch_add_runs(&sums, 1, type_of(wide), on_device()));
    return;
  }
  open_norms_.push_back(sums);
  open_type_ = type_of(wide);
}

// Where another norm's sums of runs may lie until finish_norms(). What does not fit finishes those that are open.
void* CudaBackend::open_norm(size_t bytes) {
  bytes = (bytes + 15) / 16 * 16;
  const size_t wanted = open_bytes_ + bytes;
  if (wanted > open_sums_.bytes() || open_norms_.size() == kRunsAtOnce) finish_norms();
  if (wanted > open_sums_.bytes()) {
    CHECK_CUDA(cudaStreamSynchronize(on_device()));  // the old one was read until then
    open_sums_ = {};
    open_sums_ = allocate(wanted);
  }
  void* place = static_cast<char*>(open_sums_.data()) + open_bytes_;
  open_bytes_ += bytes;
  return place;
}

void CudaBackend::finish_norms() {
  CHECK_CUDA(launch_add_runs(open_norms_.data(), static_cast<int64_t>(open_norms_.size()), open_type_, on_device()));
  open_norms_.clear();
  open_bytes_ = 0;
}

void CudaBackend::rotate(Tensor x, Tensor position, Tensor cosine, Tensor sine, bool inverse) {
  const DType wide = accumulate_type(x.dtype());
  const int64_t pairs = cosine.size(1);
  CHECK(x.rank() == 3 && 2 * pairs <= x.size(2) && position.count() == x.size(0) && sine.shape() == cosine.shape(),
        "rotation shapes", carillon::describe(x), carillon::describe(cosine));
  CHECK_CUDA(launch_rotate({type_of(x), heads(x), x.size(0), x.size(1), pairs, cosine.size(0), indices(position),
                            packed(cosine, wide), packed(sine, wide), inverse, static_cast<int*>(beyond_.data())},
                           on_device()));
}

void CudaBackend::rotation_gradient(Tensor rates, Tensor x, Tensor dx, Tensor position) {
  const int64_t pairs = rates.count();
  CHECK(x.rank() == 3 && 2 * pairs <= x.size(2) && position.count() == x.size(0) && dx.shape() == x.shape() &&
            dx.dtype() == x.dtype(),
        "rotation shapes", carillon::describe(x), carillon::describe(rates));
  auto* partial = static_cast<double*>(scratch(static_cast<size_t>(cuda::rotation_gradient_bytes(x.size(0), pairs))));
  CHECK_CUDA(launch_rotation_gradient({type_of(x), heads(x), heads(dx), x.size(0), x.size(1), pairs, indices(position),
                                       static_cast<double*>(packed(rates, DType::kFloat64)), partial},
                                      on_device()));
}

void CudaBackend::scale_rows(Tensor x, Tensor factor) {
  CHECK(factor.count() == x.size(0), "one factor a row", carillon::describe(x), carillon::describe(factor));
  CHECK_CUDA(launch_scale_rows({type_of(x), x.size(0), x.rank() == 3 ? x.size(1) : 1, x.size(-1), heads(x),
                                packed(factor, accumulate_type(x.dtype()))},
                               on_device()));
}

void CudaBackend::dropout(Tensor y, Tensor x, Tensor row, const Dropout& dropout, bool accumulate) {
  CHECK(y.shape() == x.shape() && y.dtype() == x.dtype() && row.count() == x.size(0), "dropout shapes",
        carillon::describe(x), carillon::describe(row));
  CHECK_CUDA(launch_dropout(
      {type_of(y), x.size(0), x.size(1), matrix(y), const_matrix(x), indices(row), dropout.seed ^ dropout.stream,
       dropout.first_column, dropout.threshold(), dropout.scale(), accumulate},
      on_device()));
}

void CudaBackend::dequantize(Tensor y, const QuantizedMatrix& x) {
  const bool nf4 = x.kind == Quantization::kNf4;
  CHECK(y.size(0) == x.rows && y.size(1) == x.width && x.codes.count() == x.code_bytes(), "dequantize shapes",
        carillon::describe(y), carillon::describe(x.codes));
  CHECK_CUDA(launch_dequantize({type_of(y), matrix(y), x.rows, x.width, x.first_row, x.first_column, x.columns,
                                x.row_blocks(), nf4, static_cast<const uint8_t*>(packed(x.codes, DType::kUInt8)),
                                packed(x.scales, nf4 ? DType::kUInt8 : DType::kFloat32),
                                nf4 ? static_cast<const float*>(packed(x.table, DType::kFloat32)) : nullptr},
                               on_device()));
}

void CudaBackend::row_dot(Tensor sums, Tensor a, Tensor b, Tensor weight, double weight_offset) {
  CHECK(a.shape() == b.shape() && a.dtype() == b.dtype() && sums.count() == a.size(0), "one sum per row",
        carillon::describe(a), carillon::describe(sums));
  CHECK_CUDA(launch_row_dot(
      {type_of(a), a.size(0), a.size(1), const_matrix(a), const_matrix(b), weight ? packed(weight, a.dtype()) : nullptr,
       weight_offset, packed(sums, accumulate_type(a.dtype()))},
      on_device()));
}

void CudaBackend::swiglu_forward(Tensor y, Tensor gate, Tensor up, GateActivation activation) {
  for (const Tensor& x : {gate, up})
    CHECK(x.shape() == y.shape() && x.dtype() == y.dtype(), "swiglu shapes", carillon::describe(x),
          carillon::describe(y));
  CHECK_CUDA(launch_swiglu_forward(
      {type_of(y), y.size(0), y.size(1), const_matrix(gate), const_matrix(up), activation == GateActivation::kGeluTanh},
      matrix(y), on_device()));
}

void CudaBackend::swiglu_backward(Tensor dgate, Tensor dup, Tensor y, Tensor dy, Tensor gate, Tensor up,
                                  GateActivation activation) {
  for (const Tensor& x : {dgate, dup, y, gate, up})
    CHECK(x.shape() == dy.shape() && x.dtype() == dy.dtype(), "swiglu shapes", carillon::describe(x),
          carillon::describe(dy));
  CHECK_CUDA(launch_swiglu_backward({type_of(dy), dy.size(0), dy.size(1), const_matrix(gate), const_matrix(up),
                                     activation == GateActivation::kGeluTanh},
                                    matrix(dgate), matrix(dup), matrix(y), const_matrix(dy), on_device()));
}

namespace {

CrossEntropy cross_entropy(const Tensor& logits, const Tensor& maximum, const Tensor& sums, const Tensor& target,
                           int64_t first_column) {
  const DType wide = accumulate_type(logits.dtype());
  const int64_t rows = logits.size(0);
  CrossEntropy args{type_of(logits), rows,    logits.size(1), first_column, const_matrix(logits),
                    nullptr,         nullptr, nullptr,        nullptr,      0};
  CHECK(maximum.count() == rows, "one number per row", describe(maximum), describe(logits));
  args.maximum = packed(maximum, wide);
  if (!sums) return args;
  CHECK(sums.rank() == 2 && sums.size(0) == 2 && sums.size(1) == rows && target.count() == rows, "cross-entropy shapes",
        describe(sums), describe(target), describe(logits));
  check_rows(sums);
  CHECK(sums.dtype() == wide, "sums are of the accumulate type", describe(sums));
  args.sum = sums.raw();
  args.at_target = static_cast<char*>(sums.raw()) + sums.stride(0) * static_cast<int64_t>(size_of(wide));
  args.target = indices(target);
  return args;
}

}  // namespace

void CudaBackend::cross_entropy_maximum(Tensor maximum, Tensor logits) {
  CHECK_CUDA(launch_cross_entropy_maximum(cross_entropy(logits, maximum, {}, {}, 0), on_device()));
}

void CudaBackend::cross_entropy_sums(Tensor sums, Tensor logits, Tensor maximum, Tensor target, int64_t first_column) {
  CHECK_CUDA(launch_cross_entropy_sums(cross_entropy(logits, maximum, sums, target, first_column), on_device()));
}

void CudaBackend::cross_entropy_finish(Tensor loss, Tensor gradient, Tensor logits, Tensor maximum, Tensor sums,
                                       Tensor target, Tensor weight, int64_t first_column, double cap) {
  const DType wide = accumulate_type(logits.dtype());
  CrossEntropy args = cross_entropy(logits, maximum, sums, target, first_column);
  args.cap = cap;
  CHECK(loss.count() == args.rows && weight.count() == args.rows, "one number per row", carillon::describe(loss),
        carillon::describe(weight));
  Matrix to;
  if (gradient) {
    CHECK(gradient.shape() == logits.shape(), "cross-entropy shapes", carillon::describe(gradient),
          carillon::describe(logits));
    CHECK(gradient.raw() != logits.raw() || size_of(gradient.dtype()) <= size_of(logits.dtype()),
          "a gradient over the logits is no wider than they are", carillon::describe(gradient),
          carillon::describe(logits));
    to = matrix(gradient);
  }
  CHECK_CUDA(launch_cross_entropy_finish(args, packed(loss, wide), packed(weight, wide), to,
                                         gradient ? type_of(gradient) : type_of(logits), on_device()));
}

}  // namespace carillon
