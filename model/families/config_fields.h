// Reads the keys of one config.json and reports errors in one form. Every getter treats a null key as absent; if null
// has a meaning of its own, ask has_key() first.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
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

  bool has_key(const char* key) const {
    asked_.insert(key);
    return json_.contains(key);
  }
  bool has(const char* key) const { return has_key(key) && !json_[key].is_null(); }
  // Whether any getter was asked for this key: without that it has no effect.
  bool was_asked(const std::string& key) const { return asked_.contains(key); }
  [[noreturn]] void wrong(const char* key, const std::string& remedy) const;

  int64_t size(const char* key, int64_t otherwise) const;  // above 0
  int64_t required_size(const char* key) const;
  int64_t count(const char* key, int64_t otherwise) const;  // 0 or above
  double number(const char* key, double otherwise) const;   // 0 or above, finite
  bool boolean(const char* key, bool otherwise) const;
  std::string text(const char* key) const;  // empty if it is absent or not a string

  // `sliding_window`; null and 0 mean none. `otherwise` if the key is absent.
  int64_t window(int64_t otherwise) const;
  // Sets the window of each layer: `width` for layers that `layer_types` calls sliding_attention or, without
  // layer_types, for which slides(layer) is true. Fails if a layer slides and there is no width.
  void set_windows(ModelConfig& config, int64_t width, const std::function<bool(int64_t layer)>& slides) const;
  // Reads `no_rope_layers`: 1 for a layer that rotates; without it uses rotates(layer).
  void set_rotating(ModelConfig& config, const std::function<bool(int64_t layer)>& rotates) const;
  // The gate's activation named by this key; fails for one that is not computed.
  GateActivation activation(const char* key, const char* otherwise) const;

 private:
  const Json& json_;
  std::string where_;
  ExitCode code_;
  mutable std::set<std::string, std::less<>> asked_;
};

// Sets L equal layers, with scale 1/sqrt(HD) unless `spec` sets one.
void set_layers(ModelConfig& config, LayerSpec spec);

}  // namespace carillon
