#include "launch/session/learned_rotation.h"

#include <algorithm>

#include "data/formats/forwarding_source.h"

namespace carillon {
namespace {

bool is_learned(const std::string& name) { return name == kOdeUp || name == kOdeDown; }

class WithoutLearned : public ForwardingSource {
 public:
  using ForwardingSource::ForwardingSource;
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names = source_->tensor_names();
    std::erase_if(names, is_learned);
    return names;
  }
  std::optional<Hdf5File::Dataset> find(const std::string& name) const override {
    return is_learned(name) ? std::nullopt : source_->find(name);
  }
  void read(std::vector<NamedShard>& shards) const override { source_->read(shards); }
  void read_stored(const std::string& name, std::vector<char>& bytes) const override {
    source_->read_stored(name, bytes);
  }
};

}  // namespace

bool has_learned_rotation(const ModelSource& source) { return source.find(kOdeUp) && source.find(kOdeDown); }

std::shared_ptr<const ClexWeights> read_learned_rotation(const ModelSource& source, const RopeConfig& rope,
                                                         int64_t pairs) {
  ClexWeights weights;
  weights.pairs = pairs, weights.hidden = clex_hidden(rope, pairs);
  const auto count = static_cast<size_t>(weights.pairs * weights.hidden);
  weights.up.resize(count), weights.down.resize(count);
  const int64_t hidden = weights.hidden;
  std::vector<NamedShard> shards{{std::string("model/") + kOdeUp, Rectangle::whole({pairs, hidden}),
                                  Tensor::of(weights.up, {pairs, hidden}), true, nullptr},
                                 {std::string("model/") + kOdeDown, Rectangle::whole({hidden, pairs}),
                                  Tensor::of(weights.down, {hidden, pairs}), true, nullptr}};
  source.read(shards);
  return std::make_shared<const ClexWeights>(std::move(weights));
}

std::unique_ptr<ModelSource> without_learned_rotation(std::unique_ptr<ModelSource> source) {
  return std::make_unique<WithoutLearned>(std::move(source));
}

}  // namespace carillon
