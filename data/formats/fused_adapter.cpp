#include "data/formats/fused_adapter.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "data/checkpoint/stored_values.h"
#include "data/formats/forwarding_source.h"
#include "data/formats/fused_source.h"
#include "runtime/check.h"

namespace carillon {
namespace {

constexpr std::string_view kModelGroup = "model/";

void multiply(std::vector<char>& bytes, StoredType type, double factor) {
  std::vector<double> values(bytes.size() / static_cast<size_t>(size_of(type)));
  convert_stored(Tensor::of(values, {static_cast<int64_t>(values.size())}), bytes.data(), type);
  for (double& value : values) value *= factor;
  store_values(values, type, bytes);
}

class JoinedAdapter : public ForwardingSource {
 public:
  JoinedAdapter(std::unique_ptr<ModelSource> source, std::vector<FusedAdapter> fused)
      : ForwardingSource(std::move(source)), fused_(std::move(fused)) {
    for (const FusedAdapter& whole : fused_) {
      whole_[whole.a] = whole_[whole.b] = &whole;
      for (const FusedAdapter::Part& part : whole.parts) parts_[part.a] = parts_[part.b] = true;
    }
  }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const std::string& name : source_->tensor_names())
      if (!parts_.contains(name)) names.push_back(name);
    for (const FusedAdapter& whole : fused_) names.insert(names.end(), {whole.a, whole.b});
    return names;
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override {
    const auto found = whole_.find(name);
    if (found == whole_.end()) return source_->find(name);
    const FusedAdapter& whole = *found->second;
    const bool a = name == whole.a;
    Hdf5File::Dataset dataset{name, StoredType::kFloat32, {}};
    int64_t rank = 0, rows = 0;
    for (const FusedAdapter::Part& part : whole.parts) {
      rank += part.rank, rows += part.rows;
      if (part.a.empty()) continue;
      const Hdf5File::Dataset stored = source_->stored(a ? part.a : part.b);
      dataset.type = stored.type;
      if (a) dataset.shape = stored.shape;
    }
    dataset.shape = a ? std::vector<int64_t>{rank, dataset.shape[1]} : std::vector<int64_t>{rows, rank};
    return dataset;
  }
  void read(std::vector<NamedShard>&) const override { throw InternalError("a joined adapter is for the export"); }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    const auto found = whole_.find(name);
    if (found == whole_.end()) return source_->read_stored(name, bytes);
    const FusedAdapter& whole = *found->second;
    std::vector<char> part_bytes;
    if (name == whole.a) {
      bytes.clear();
      for (const FusedAdapter::Part& part : whole.parts) {
        if (part.a.empty()) continue;
        source_->read_stored(part.a, part_bytes);
        bytes.insert(bytes.end(), part_bytes.begin(), part_bytes.end());
      }
      return;
    }
    const Hdf5File::Dataset dataset = stored(name);
    const auto element = static_cast<size_t>(size_of(dataset.type)), rank = static_cast<size_t>(dataset.shape[1]);
    bytes.assign(static_cast<size_t>(dataset.shape[0]) * rank * element, 0);  // all zero bits are zero in every type
    size_t row = 0, column = 0;
    for (const FusedAdapter::Part& part : whole.parts) {
      const auto rows = static_cast<size_t>(part.rows), width = static_cast<size_t>(part.rank);
      if (!part.b.empty()) {
        source_->read_stored(part.b, part_bytes);
        if (part.factor != 1) multiply(part_bytes, dataset.type, part.factor);
        for (size_t r = 0; r < rows; ++r)
          std::memcpy(bytes.data() + ((row + r) * rank + column) * element, part_bytes.data() + r * width * element,
                      width * element);
      }
      row += rows, column += width;
    }
  }

 private:
  std::vector<FusedAdapter> fused_;
  std::map<std::string, const FusedAdapter*> whole_;
  std::map<std::string, bool> parts_;
};

// Shows other names in place of some stored tensors, which are hidden themselves.
class SharedTensors : public ForwardingSource {
 public:
  SharedTensors(std::unique_ptr<ModelSource> source, std::map<std::string, std::vector<std::string>> names)
      : ForwardingSource(std::move(source)), names_(std::move(names)) {
    for (const auto& [stored, shown] : names_)
      for (const std::string& name : shown) stored_[name] = stored;
  }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> result;
    for (const std::string& name : source_->tensor_names()) {
      const auto found = names_.find(name);
      if (found == names_.end())
        result.push_back(name);
      else
        result.insert(result.end(), found->second.begin(), found->second.end());
    }
    return result;
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override {
    if (names_.contains(name)) return std::nullopt;
    auto dataset = source_->find(behind(name));
    if (dataset) dataset->name = name;
    return dataset;
  }
  void read(std::vector<NamedShard>& shards) const override {
    std::vector<NamedShard> stored = shards;
    for (NamedShard& shard : stored)
      shard.name = std::string(kModelGroup) + behind(shard.name.substr(kModelGroup.size()));
    source_->read(stored);
  }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    source_->read_stored(behind(name), bytes);
  }

 private:
  const std::string& behind(const std::string& name) const {
    const auto found = stored_.find(name);
    return found == stored_.end() ? name : found->second;
  }
  std::map<std::string, std::vector<std::string>> names_;
  std::map<std::string, std::string> stored_;
};

}  // namespace

std::unique_ptr<ModelSource> join_adapter(std::unique_ptr<ModelSource> source, std::vector<FusedAdapter> fused) {
  if (fused.empty()) return source;
  return std::make_unique<JoinedAdapter>(std::move(source), std::move(fused));
}

std::unique_ptr<ModelSource> split_adapter(std::unique_ptr<ModelSource> source,
                                           const std::vector<FusedAdapter>& fused) {
  std::map<std::string, std::vector<std::string>> shared;
  std::vector<FusedTensor> split;
  for (const FusedAdapter& whole : fused) {
    if (!source->find(whole.a) || !source->find(whole.b)) continue;
    FusedTensor rows{whole.b, {}};
    for (const FusedAdapter::Part& part : whole.parts) {
      shared[whole.a].push_back(part.a);
      rows.parts.push_back({part.b, part.rows});
    }
    split.push_back(std::move(rows));
  }
  if (split.empty()) return source;
  return std::make_unique<SharedTensors>(split_source(std::move(source), split), std::move(shared));
}

}  // namespace carillon
