// The keys of one config.json, read one after the other with the same message for what is wrong with them. A key that
// is null is absent for every getter; where null means something of its own, ask has_key() first.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/config.h"

namespace carillon {

class ConfigFields {
 public:
  ConfigFields(const Json& json, std::string where, ExitCode code)
      : json_(json), where_(std::move(where)), code_(code) {}

  const Json& json() const { return json_; }
  const std::string& where() const { return where_; }
  ExitCode code() const { return code_; }

  bool has_key(const char* key) const { return json_.contains(key); }
  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  [[noreturn]] void wrong(const char* key, const std::string& remedy) const;

  int64_t size(const char* key, int64_t otherwise) const;  // above 0
  int64_t required_size(const char* key) const;
  int64_t count(const char* key, int64_t otherwise) const;  // 0 or above
  double number(const char* key, double otherwise) const;   // 0 or above, finite
  bool boolean(const char* key, bool otherwise) const;
  std::string text(const char* key) const;  // empty where it is absent or no text

  // `sliding_window`, with null and 0 for none; `otherwise` where the key is absent.
  int64_t window(int64_t otherwise) const;
  // The window of each layer: `width` where `layer_types` says sliding_attention, or, without layer_types, where
  // `slides(layer)`. Error where a layer slides and there is no width.
  void set_windows(ModelConfig& config, int64_t width, const std::function<bool(int64_t layer)>& slides) const;
  // `no_rope_layers`: 1 for a layer that rotates; without it `rotates(layer)`.
  void set_rotating(ModelConfig& config, const std::function<bool(int64_t layer)>& rotates) const;
  // The gate's activation by this key; error for one that is not computed.
  GateActivation activation(const char* key, const char* otherwise) const;

 private:
  const Json& json_;
  std::string where_;
  ExitCode code_;
};

// L layers alike, with scale 1/sqrt(HD).
void set_layers(ModelConfig& config, LayerSpec spec);

}  // namespace carillon
