#include "data/formats/fused_source.h"

#include <algorithm>
#include <map>

#include "data/formats/forwarding_source.h"
#include "runtime/check.h"
#include "runtime/error.h"

namespace carillon {
namespace {

constexpr std::string_view kModelGroup = "model/";

class SplitSource : public ForwardingSource {
 public:
  SplitSource(std::unique_ptr<ModelSource> source, const std::vector<FusedTensor>& fused)
      : ForwardingSource(std::move(source)) {
    for (const FusedTensor& tensor : fused) {
      const auto stored = source_->find(tensor.name);
      if (!stored) continue;
      int64_t rows = 0;
      for (const FusedTensor::Part& part : tensor.parts) {
        parts_[part.name] = {tensor.name, rows, part.rows};
        rows += part.rows;
      }
      if (stored->shape.size() != 2 || stored->shape[0] != rows)
        fail(ExitCode::kBadInput, "tensor {} has [{}], its config.json says {} rows, {}, fix either", tensor.name,
             fmt::join(stored->shape, ", "), rows, path());
      fused_[tensor.name] = rows;
      names_[tensor.name] = tensor.parts;
    }
  }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const std::string& name : source_->tensor_names()) {
      const auto found = names_.find(name);
      if (found == names_.end()) {
        names.push_back(name);
      } else {
        for (const FusedTensor::Part& part : found->second) names.push_back(part.name);
      }
    }
    return names;
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override {
    const auto part = parts_.find(name);
    if (part == parts_.end()) return names_.contains(name) ? std::nullopt : source_->find(name);
    Hdf5File::Dataset dataset = *source_->find(part->second.fused);
    dataset.name = name;
    dataset.shape[0] = part->second.rows;
    return dataset;
  }
  void read(std::vector<NamedShard>& shards) const override {
    std::vector<TensorShape> shapes;
    std::vector<NamedShard> stored = shards;
    for (NamedShard& shard : stored) {
      const std::string name = shard.name.substr(kModelGroup.size());
      shapes.push_back({name, shard.rectangle.global_shape});
      const auto part = parts_.find(name);
      if (part == parts_.end()) continue;
      shard.name = std::string(kModelGroup) + part->second.fused;
      shard.rectangle.global_shape[0] = fused_.at(part->second.fused);
      shard.rectangle.offset[0] += part->second.first_row;
    }
    require(shapes);
    source_->read(stored);
  }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    const auto part = parts_.find(name);
    if (part == parts_.end()) return source_->read_stored(name, bytes);
    source_->read_stored(part->second.fused, bytes);
    const auto row = static_cast<int64_t>(bytes.size()) / fused_.at(part->second.fused);
    const auto begin = bytes.begin() + part->second.first_row * row;
    bytes = std::vector<char>(begin, begin + part->second.rows * row);
  }

 private:
  struct Part {
    std::string fused;
    int64_t first_row, rows;
  };
  std::map<std::string, Part> parts_;
  std::map<std::string, int64_t> fused_;  // rows of each
  std::map<std::string, std::vector<FusedTensor::Part>> names_;
};

class JoinedSource : public ForwardingSource {
 public:
  JoinedSource(std::unique_ptr<ModelSource> source, const std::vector<FusedTensor>& fused)
      : ForwardingSource(std::move(source)) {
    for (const FusedTensor& tensor : fused) {
      fused_[tensor.name] = tensor.parts;
      for (size_t part = 0; part < tensor.parts.size(); ++part)
        part_of_[tensor.parts[part].name] = part == 0 ? tensor.name : "";
    }
  }
  // A fused tensor is listed in the place of its first part.
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const std::string& name : source_->tensor_names()) {
      const auto found = part_of_.find(name);
      if (found == part_of_.end())
        names.push_back(name);
      else if (!found->second.empty())
        names.push_back(found->second);
    }
    return names;
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override {
    const auto found = fused_.find(name);
    if (found == fused_.end()) return source_->find(name);
    Hdf5File::Dataset dataset = source_->stored(found->second.front().name);
    dataset.name = name;
    dataset.shape[0] = 0;
    for (const FusedTensor::Part& part : found->second) dataset.shape[0] += part.rows;
    return dataset;
  }
  void read(std::vector<NamedShard>&) const override { throw InternalError("a joined source is for the export"); }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    const auto found = fused_.find(name);
    if (found == fused_.end()) return source_->read_stored(name, bytes);
    bytes.clear();
    for (const FusedTensor::Part& part : found->second) {
      std::vector<char> rows;
      source_->read_stored(part.name, rows);
      bytes.insert(bytes.end(), rows.begin(), rows.end());
    }
  }

 private:
  std::map<std::string, std::vector<FusedTensor::Part>> fused_;
  std::map<std::string, std::string> part_of_;  // first part -> fused name; other parts -> empty
};

}  // namespace

std::unique_ptr<ModelSource> split_source(std::unique_ptr<ModelSource> source, const std::vector<FusedTensor>& fused) {
  const bool any =
      std::any_of(fused.begin(), fused.end(), [&](const FusedTensor& tensor) { return source->find(tensor.name); });
  return any ? std::make_unique<SplitSource>(std::move(source), fused) : std::move(source);
}

std::unique_ptr<ModelSource> join_source(std::unique_ptr<ModelSource> source, const std::vector<FusedTensor>& fused) {
  return fused.empty() ? std::move(source) : std::make_unique<JoinedSource>(std::move(source), fused);
}

}  // namespace carillon
