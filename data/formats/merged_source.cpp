#include "data/formats/merged_source.h"

#include "data/checkpoint/stored_values.h"
#include "data/formats/adapted_model.h"
#include "data/formats/forwarding_source.h"
#include "data/formats/hugging_face_folder.h"

namespace carillon {
namespace {

class MergedSource : public ForwardingSource {
 public:
  MergedSource(std::unique_ptr<ModelSource> source, std::map<std::string, Merge> merges, std::optional<StoredType> type)
      : ForwardingSource(std::move(source)), merges_(std::move(merges)), type_(type) {}
  std::optional<AdapterInfo> adapter() const override { return std::nullopt; }
  const ModelSource* base() const override { return nullptr; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (std::string& name : source_->tensor_names())
      if (!is_adapter_tensor(name)) names.push_back(std::move(name));
    return names;
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override {
    auto dataset = source_->find(name);
    if (dataset && type_) dataset->type = *type_;
    return dataset;
  }
  // Parts of a tensor are usually read one after the other, so the last one is kept.
  void read(std::vector<NamedShard>& shards) const override {
    const std::vector<TensorShape> shapes = shapes_of(shards);
    require(shapes);
    std::vector<char> bytes;
    for (size_t i = 0; i < shards.size(); ++i) {
      const std::string& name = shapes[i].name;
      if (last_name_ != name) {
        last_name_.clear();
        read_stored(name, last_bytes_);
        last_name_ = name;
      }
      const HuggingFaceFolder::StoredTensor whole{stored(name).type, shapes[i].shape,
                                                  reinterpret_cast<const std::byte*>(last_bytes_.data()), path()};
      copy_rectangle(whole, shards[i].rectangle, bytes);
      fill_shard(shards[i], bytes.data(), whole.type);
    }
  }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    const StoredType from = source_->stored(name).type, to = stored(name).type;
    const auto merge = merges_.find(name);
    if (merge == merges_.end() && from == to) return source_->read_stored(name, bytes);
    std::vector<double> values = values_of(name);
    if (merge != merges_.end()) add(merge->second, source_->stored(name).shape, values);
    store_values(values, to, bytes);
  }

 private:
  std::vector<double> values_of(const std::string& name) const {
    const Hdf5File::Dataset stored = source_->stored(name);
    std::vector<char> bytes;
    source_->read_stored(name, bytes);
    std::vector<double> values(static_cast<size_t>(Rectangle::whole(stored.shape).count()));
    convert_stored(Tensor::of(values, {static_cast<int64_t>(values.size())}), bytes.data(), stored.type);
    return values;
  }

  void add(const Merge& merge, const std::vector<int64_t>& shape, std::vector<double>& weight) const {
    const std::vector<double> a = values_of(merge.a), b = values_of(merge.b);
    const auto rows = static_cast<size_t>(shape[0]), columns = static_cast<size_t>(shape[1]), rank = a.size() / columns;
    std::vector<double> sum(columns);
    for (size_t row = 0; row < rows; ++row) {
      std::fill(sum.begin(), sum.end(), 0);
      for (size_t k = 0; k < rank; ++k)
        for (size_t column = 0; column < columns; ++column) sum[column] += b[row * rank + k] * a[k * columns + column];
      for (size_t column = 0; column < columns; ++column) weight[row * columns + column] += merge.scale * sum[column];
    }
  }

  std::map<std::string, Merge> merges_;
  std::optional<StoredType> type_;
  mutable std::string last_name_;  // of the tensor in last_bytes_; empty: none
  mutable std::vector<char> last_bytes_;
};

}  // namespace

std::unique_ptr<ModelSource> merge_source(std::unique_ptr<ModelSource> source, std::map<std::string, Merge> merges,
                                          std::optional<StoredType> type) {
  return std::make_unique<MergedSource>(std::move(source), std::move(merges), type);
}

}  // namespace carillon
