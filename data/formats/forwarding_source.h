// A source that changes the weights of another source and forwards everything else to it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "data/formats/model_source.h"

namespace carillon {

class ForwardingSource : public ModelSource {
 public:
  explicit ForwardingSource(std::unique_ptr<ModelSource> source) : source_(std::move(source)) {}
  const std::string& path() const override { return source_->path(); }
  std::string config_json() const override { return source_->config_json(); }
  std::optional<AdapterInfo> adapter() const override { return source_->adapter(); }
  const ModelSource* base() const override { return source_->base(); }
  const std::vector<std::string>& notices() const override { return source_->notices(); }
  std::map<std::string, std::string> tokenizer_files() const override { return source_->tokenizer_files(); }
  std::unique_ptr<Tokenizer> tokenizer() const override { return source_->tokenizer(); }

 protected:
  std::unique_ptr<ModelSource> source_;
};

}  // namespace carillon
